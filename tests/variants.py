"""Which answers the suite renders: all of it follows from cookiecutter.json.

A new option needs no line here. One that changes no Python file and no dependency of the service
may be named in FILES_ONLY, so that it costs no environment of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import combinations, cycle, product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Answer = str | bool
Answers = dict[str, Answer]
Pair = frozenset[tuple[str, Answer]]

ROOT = Path(__file__).resolve().parent.parent
SERVICE = "{{cookiecutter.project_slug}}"
OFF = (False, "none")
FILES_ONLY = frozenset({"license", "ci"})
MOST_RENDERINGS = 100
"""The full product is rendered up to this many; each takes a third of a second."""


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


def pairwise(
    options: Mapping[str, Sequence[Answer]], given: Iterable[Answers] = ()
) -> list[Answers]:
    """Extend `given` until every two values of two options meet in some row.

    Each new row starts with a pair that is missing, and completes it with what covers most.
    """
    rows = list(given)
    covered: set[Pair] = set().union(*map(pairs, rows))
    items = [[(name, value) for value in values] for name, values in options.items()]
    for two in (two for a, b in combinations(items, 2) for two in product(a, b)):
        if frozenset(two) not in covered:
            row: Answers = dict(two)
            for name in [name for name in options if name not in row]:
                row[name] = max(
                    options[name], key=lambda value: len(pairs({**row, name: value}) - covered)
                )
            rows.append({name: row[name] for name in options})
            covered |= pairs(row)
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
        if name not in FILES_ONLY | {"python_version"} and value not in OFF
    ]
    return "-".join([f"py{answers['python_version']}", *(on or ["plain"])])


def load_variants() -> list[Variant]:
    """List those that get an environment: everything on, everything off, and what pairwise adds."""
    ends = {"everything-on": everything(on=True), "everything-off": everything(on=False)}
    options = load_options()
    files_only = {name: cycle(options.pop(name)) for name in sorted(FILES_ONLY)}
    rows = pairwise(options, [{name: row[name] for name in options} for row in ends.values()])
    middle = [
        {**row, **{name: next(values) for name, values in files_only.items()}}
        for row in rows[len(ends) :]
    ]
    return [
        *(Variant(name, answers) for name, answers in ends.items()),
        *(Variant(name_of(answers), answers) for answers in middle),
    ]


def load_combinations(most: int = MOST_RENDERINGS) -> list[Answers]:
    """List what is rendered and linted: the full product while it is small.

    Beyond that, the full product of what changes Python files, and pairwise all the rest.
    """
    options = load_options()
    if prod(map(len, options.values())) <= most:
        return [dict(zip(options, row, strict=True)) for row in product(*options.values())]
    inert = FILES_ONLY | {"python_version"}
    rest = {name: cycle(values) for name, values in options.items() if name in inert}
    code = {name: values for name, values in options.items() if name not in inert}
    rows = [dict(zip(code, row, strict=True)) for row in product(*code.values())]
    given = [
        {name: row[name] if name in row else next(rest[name]) for name in options} for row in rows
    ]
    return pairwise(options, given)
