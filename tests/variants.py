"""Which answers the suite renders: all of it follows from cookiecutter.json.

A new option needs no line here. One that changes no Python file and no dependency of the service
may be named in FILES_ONLY, so that it costs no environment of its own. What the pre-generation
hook refuses is never rendered.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import combinations, cycle, product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from pre_gen_project import conflict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Answer = str | bool
Answers = dict[str, Answer]
Pair = frozenset[tuple[str, Answer]]

ROOT = Path(__file__).resolve().parent.parent
SERVICE = "{{cookiecutter.project_slug}}"
OFF = (False, "none")
FILES_ONLY = frozenset({"license", "deployment", "ci"})
INERT = FILES_ONLY | {"python_version"}
MOST_RENDERINGS = 100
"""The full product is rendered up to this many; each takes a fifth of a second."""


def load_options(template: Path = ROOT) -> dict[str, list[Answer]]:
    """Read the options that are not free text, each with its values, the default first."""
    options: dict[str, list[Answer]] = {}
    for name, default in json.loads((template / "cookiecutter.json").read_text("utf-8")).items():
        if isinstance(default, bool):
            options[name] = [default, not default]
        elif isinstance(default, list) and not name.startswith("_"):
            options[name] = default
    return options


def pairs(answers: Mapping[str, Answer]) -> set[Pair]:
    """List every two answers that are given together."""
    return set(map(frozenset, combinations(answers.items(), 2)))


def full_product(options: Mapping[str, Sequence[Answer]]) -> list[Answers]:
    """List every combination that the hook accepts."""
    rows = (dict(zip(options, row, strict=True)) for row in product(*options.values()))
    return [row for row in rows if not conflict(row)]


def pairwise(
    options: Mapping[str, Sequence[Answer]], given: Iterable[Answers] = ()
) -> list[Answers]:
    """Extend `given` until every two values that the hook accepts together meet in some row.

    Each new row is the one of the full product that covers most of what is missing.
    """
    rows = list(given)
    candidates = [(row, pairs(row)) for row in full_product(options)]
    missing: set[Pair] = set().union(*(met for _, met in candidates)).difference(*map(pairs, rows))
    while missing:
        row, met = max(candidates, key=lambda candidate: len(candidate[1] & missing))
        rows.append(row)
        missing -= met
    return rows


@dataclass(frozen=True)
class Variant:
    """One set of answers and the name that the reports give it."""

    name: str
    answers: Answers

    @property
    def python(self) -> str:
        """The Python that the rendered project asks for."""
        return str(self.answers["python_version"])

    @property
    def kind(self) -> str:
        """What mypy's cache depends on: with Qdrant's h2, all that imports httpx is another."""
        return "http2" if self.answers["vector_store"] == "qdrant" else "http1"


def defaults() -> Answers:
    """Answer each option with its default."""
    return {name: values[0] for name, values in load_options().items()}


def everything(*, on: bool) -> Answers:
    """Answer each option with the most that it can do, or with the least."""

    def pick(values: list[Answer]) -> Answer:
        off = [value for value in values if value in OFF]
        more = [value for value in values if value not in OFF]
        return more[-1] if on else (off or more)[0]

    return {name: pick(values) for name, values in load_options().items()}


def name_of(answers: Answers) -> str:
    """Name a row by its Python and by what is on in it."""
    on = [
        name if value is True else str(value)
        for name, value in answers.items()
        if name not in INERT and value not in OFF
    ]
    return "-".join([f"py{answers['python_version']}", *(on or ["plain"])])


def load_variants() -> list[Variant]:
    """List those that get an environment: defaults, all on, all off, and what pairwise adds.

    They take the versions of Python in turn: not every option meets every version.
    """
    ends = {
        "default": defaults(),
        "everything-on": everything(on=True),
        "everything-off": everything(on=False),
    }
    options = load_options()
    inert = {name: options.pop(name) for name in sorted(INERT)}
    rows = pairwise(options, [{name: row[name] for name in options} for row in ends.values()])
    return [
        *(Variant(name, answers) for name, answers in ends.items()),
        *named(rows[len(ends) :], inert),
    ]


def load_all_variants() -> list[Variant]:
    """List the full product of what changes code, dependencies or Python: the nightly run."""
    options = load_options()
    files_only = {name: options.pop(name) for name in sorted(FILES_ONLY)}
    return named(full_product(options), files_only)


def named(rows: Iterable[Answers], others: Mapping[str, Sequence[Answer]]) -> list[Variant]:
    """Name the rows, and complete them by turns with the values of the other options."""
    rest = {name: cycle(values) for name, values in others.items()}
    complete = [{**row, **{name: next(values) for name, values in rest.items()}} for row in rows]
    return [Variant(name_of(answers), answers) for answers in complete]


def load_combinations(most: int = MOST_RENDERINGS) -> list[Answers]:
    """List what is rendered and linted: the full product while it is small.

    Beyond that, the full product of what changes Python files, and pairwise all the rest.
    """
    options = load_options()
    if prod(map(len, options.values())) <= most:
        return full_product(options)
    rest = {name: cycle(values) for name, values in options.items() if name in INERT}
    code = {name: values for name, values in options.items() if name not in INERT}
    given = [
        {name: row[name] if name in row else next(rest[name]) for name in options}
        for row in full_product(code)
    ]
    return pairwise(options, given)
