"""Every combination of options renders to code that is whole, clean and free of template marks."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import pytest

import post_gen_project
from pre_gen_project import conflict
from projects import render, run
from variants import (
    MOST_RENDERINGS,
    SERVICE,
    Answer,
    Answers,
    everything,
    load_all_variants,
    load_combinations,
    load_options,
    load_variants,
    pairs,
    pairwise,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from variants import Variant

TEXT_FILES = {".py", ".toml", ".yml", ".yaml", ".md", ".json", ".html", ".cfg", ""}
OPTIONAL_PATHS = post_gen_project.optional_paths()


@dataclass(frozen=True)
class Rendering:
    """A rendered project and the answers behind it."""

    project: Path
    answers: Answers

    def __str__(self) -> str:
        return f"{self.answers}"

    @cached_property
    def sources(self) -> dict[str, str]:
        """Every text file, by its path in the project."""
        return {
            path.relative_to(self.project).as_posix(): path.read_text("utf-8")
            for path in self.project.rglob("*")
            if path.suffix in TEXT_FILES and path.is_file()
        }


# Most files are the same in most renderings, so whatever reads a text is cached by the text.


@cache
def imported_modules(source: str) -> frozenset[str]:
    """Collect the absolute names of the modules that a file imports."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            modules.add(node.module)
    return frozenset(modules)


@cache
def left_marks(text: str) -> re.Match[str] | None:
    """Find a mark or an expression of the template."""
    return re.search(r"# optional:|\{\{ ?cookiecutter|\{%-? ", text)


@cache
def mentioned_paths(text: str) -> frozenset[str]:
    """Find the paths of the table that a text names, as paths or as modules."""
    return frozenset(
        path
        for path in OPTIONAL_PATHS
        for word in (path, path.removesuffix(".py").replace("/", "."))
        if word in text and re.search(rf"(?<![\w./]){re.escape(word)}(?![\w-])", text)
    )


@pytest.fixture(scope="module")
def renderings(template: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Rendering]:
    """Render each combination once."""
    root = tmp_path_factory.mktemp("combinations")
    return [
        Rendering(render(template, root / str(number), answers), answers)
        for number, answers in enumerate(load_combinations())
    ]


@pytest.fixture(scope="module")
def distinct_code(renderings: list[Rendering]) -> list[Path]:
    """List the Python files, each content once for each path that it has in a project."""
    files = {
        (name, text): rendering.project / name
        for rendering in renderings
        for name, text in rendering.sources.items()
        if name.endswith(".py")
    }
    return list(files.values())


def test_ruff_check(distinct_code: list[Path], tmp_path: Path) -> None:
    """No rule of the service's own ruff.toml is broken in any of them."""
    run(["ruff", "check", "--no-cache", "--output-format=concise", *distinct_code], tmp_path)


def test_ruff_format(distinct_code: list[Path], tmp_path: Path) -> None:
    """Taking lines out leaves nothing for the formatter to do."""
    run(["ruff", "format", "--no-cache", "--diff", *distinct_code], tmp_path)


def test_byte_compilation(distinct_code: list[Path]) -> None:
    """Each Python file compiles."""
    for path in distinct_code:
        compile(path.read_bytes(), path, "exec")


def test_no_template_mark_is_left(renderings: list[Rendering]) -> None:
    """Neither a mark nor an expression of the template is in any file or name."""
    for rendering in renderings:
        for name, source in rendering.sources.items():
            left = left_marks(name) or left_marks(source)
            assert not left, f"{rendering}: {name}: {left}"


def test_every_import_of_the_package_resolves(renderings: list[Rendering]) -> None:
    """No file imports a module of the service that was taken out."""
    for rendering in renderings:
        there = {name.removesuffix(".py").replace("/", ".") for name in rendering.sources}
        there |= {module.removesuffix(".__init__") for module in there}
        for name, source in rendering.sources.items():
            imported = imported_modules(source) if name.endswith(".py") else ()
            own = {module for module in imported if module.split(".")[0] in {"app", "tests"}}
            assert own <= there, f"{rendering}: {name}: {own - there}"


def test_no_file_speaks_of_what_was_taken_out(renderings: list[Rendering]) -> None:
    """No file names a removed path or module: not a document, not a contract, not a test."""
    for rendering in renderings:
        gone = {path for path in OPTIONAL_PATHS if not (rendering.project / path).exists()}
        for name, source in rendering.sources.items():
            found = gone & mentioned_paths(source)
            assert not found, f"{rendering}: {name}: {found}"


def test_each_option_takes_out_its_own_paths(renderings: list[Rendering]) -> None:
    """A path of the table is there exactly where it and its folders are asked for."""
    for rendering in renderings:
        gone = OPTIONAL_PATHS - post_gen_project.optional_paths(rendering.answers)
        for path in OPTIONAL_PATHS:
            there = not any(f"{path}/".startswith(f"{folder}/") for folder in gone)
            assert (rendering.project / path).exists() is there, f"{rendering}: {path}"


def test_one_project_holds_the_same_files_as_the_template(template: Path, tmp_path: Path) -> None:
    """Nothing of the template is lost on the way but what the table takes out."""
    answers = everything(on=True)
    project = render(template, tmp_path / "out", answers)
    gone = OPTIONAL_PATHS - post_gen_project.optional_paths(answers)
    names = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    expected = {
        path.relative_to(template / SERVICE).as_posix()
        for path in (template / SERVICE).rglob("*")
        if path.is_file()
    }
    kept = {name for name in expected if not any((name + "/").startswith(f"{p}/") for p in gone)}
    assert names == kept | {".cookiecutter.json", ".python-version"}


def test_every_value_of_every_option_is_in_some_variant() -> None:
    """An option, or a value, that no variant tests is no supported one."""
    tested = {item for variant in load_variants() for item in variant.answers.items()}
    options = {(name, value) for name, values in load_options().items() for value in values}
    assert options == tested


@pytest.mark.parametrize("most", [MOST_RENDERINGS, 0])
def test_every_pair_of_values_is_rendered(most: int) -> None:
    """The combinations leave no pair of values out, also where the full product is too large."""
    rendered = load_combinations(most)
    assert len(pairwise(load_options(), rendered)) == len(rendered)


def test_pairwise_meets_every_pair() -> None:
    """Each value of an option meets each value of each other option, in far fewer rows."""
    options: dict[str, list[Answer]] = {
        "a": ["1", "2", "3"],
        "b": [False, True],
        "c": ["x", "y", "z"],
        "d": [False, True],
    }
    rows = pairwise(options, [{"a": "1", "b": True, "c": "x", "d": True}])
    met = set().union(*map(pairs, rows))
    assert len(met) == 3 * 2 + 3 * 3 + 3 * 2 + 2 * 3 + 2 * 2 + 3 * 2
    assert rows[0] == {"a": "1", "b": True, "c": "x", "d": True}
    assert len(rows) < 14


def test_nothing_is_rendered_that_the_hook_refuses() -> None:
    """Variants, combinations and the nightly product leave out what a user cannot have."""
    listed = [variant.answers for variant in (*load_variants(), *load_all_variants())]
    assert not [answers for answers in (*listed, *load_combinations()) if conflict(answers)]
    assert conflict({"vector_store": "none", "job_queue": "celery"})


@pytest.mark.parametrize("load", [load_variants, load_all_variants])
def test_variants_have_names_of_their_own(load: Callable[[], list[Variant]]) -> None:
    """A name says which variant to run again."""
    names = [variant.name for variant in load()]
    assert len(set(names)) == len(names)
