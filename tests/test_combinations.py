"""Every combination of options renders to code that is whole, clean and free of template marks."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

import post_gen_project
from projects import render, run
from variants import (
    MOST_RENDERINGS,
    SERVICE,
    Answer,
    Answers,
    everything,
    load_combinations,
    load_options,
    load_variants,
    pairs,
    pairwise,
)

if TYPE_CHECKING:
    from pathlib import Path

TEXT_FILES = {".py", ".toml", ".yml", ".yaml", ".md", ".json", ".html", ".cfg", ""}


@dataclass(frozen=True)
class Rendering:
    """A rendered project and the answers behind it."""

    project: Path
    answers: Answers

    def __str__(self) -> str:
        return f"{self.answers}"

    def sources(self) -> dict[str, str]:
        """Read every text file, by its path in the project."""
        return {
            path.relative_to(self.project).as_posix(): path.read_text("utf-8")
            for path in self.project.rglob("*")
            if path.is_file() and path.suffix in TEXT_FILES
        }

    def code(self) -> dict[str, str]:
        """Read every Python file."""
        return {name: text for name, text in self.sources().items() if name.endswith(".py")}


@pytest.fixture(scope="module")
def renderings(template: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Rendering]:
    """Render each combination once."""
    root = tmp_path_factory.mktemp("combinations")
    return [
        Rendering(render(template, root / str(number), answers), answers)
        for number, answers in enumerate(load_combinations())
    ]


@pytest.fixture(scope="module")
def distinct(renderings: list[Rendering]) -> list[Rendering]:
    """Keep one for each set of Python files: licence and pipeline do not change them."""
    return list(
        {frozenset(rendering.code().items()): rendering for rendering in renderings}.values()
    )


def test_ruff_check(distinct: list[Rendering], tmp_path: Path) -> None:
    """No rule of the service's own ruff.toml is broken in any of them."""
    projects = [str(rendering.project) for rendering in distinct]
    run(["ruff", "check", "--no-cache", "--output-format=concise", *projects], tmp_path)


def test_ruff_format(distinct: list[Rendering], tmp_path: Path) -> None:
    """Taking lines out leaves nothing for the formatter to do."""
    projects = [str(rendering.project) for rendering in distinct]
    run(["ruff", "format", "--no-cache", "--diff", *projects], tmp_path)


def test_byte_compilation(distinct: list[Rendering]) -> None:
    """Each Python file compiles."""
    for rendering in distinct:
        for name, source in rendering.code().items():
            compile(source, f"{rendering}: {name}", "exec")


def test_no_template_mark_is_left(renderings: list[Rendering]) -> None:
    """Neither a mark nor an expression of the template is in any file or name."""
    for rendering in renderings:
        for name, source in rendering.sources().items():
            left = re.search(r"# optional:|\{\{ ?cookiecutter|\{%-? ", name + "\n" + source)
            assert not left, f"{rendering}: {name}: {left}"


def test_every_import_of_the_package_resolves(distinct: list[Rendering]) -> None:
    """No file imports a module of the service that was taken out."""
    for rendering in distinct:
        for name, source in rendering.code().items():
            for module in imported_modules(ast.parse(source)):
                assert resolves(rendering.project, module), f"{rendering}: {name}: {module}"


def imported_modules(tree: ast.Module) -> set[str]:
    """Collect the absolute names of the modules that a file imports."""
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            modules.add(node.module)
    return modules


def resolves(project: Path, module: str) -> bool:
    """Tell whether a module of the project is there; others are none of its business."""
    first, *rest = module.split(".")
    path = project.joinpath(first, *rest)
    return first not in {"app", "tests"} or path.is_dir() or path.with_suffix(".py").is_file()


def test_no_file_speaks_of_what_was_taken_out(renderings: list[Rendering]) -> None:
    """No file names a removed path or module: not a document, not a contract, not a test."""
    optional = {path for paths in post_gen_project.OPTIONAL.values() for path in paths}
    for rendering in renderings:
        gone = {path for path in optional if not (rendering.project / path).exists()}
        dotted = {path.removesuffix(".py").replace("/", ".") for path in gone if "/" in path}
        words = sorted(map(re.escape, gone | dotted))
        if not words:
            continue
        pattern = re.compile(rf"(?<![\w./])({'|'.join(words)})(?![\w-])")
        for name, source in rendering.sources().items():
            found = pattern.search(source)
            assert not found, f"{rendering}: {name}: {found}"


def test_each_option_takes_out_its_own_paths(renderings: list[Rendering]) -> None:
    """A path of the table is there exactly where a condition that holds asks for it."""
    for rendering in renderings:
        kept = {
            path
            for condition, paths in post_gen_project.OPTIONAL.items()
            if post_gen_project.holds(condition, rendering.answers)
            for path in paths
        }
        for path in {path for paths in post_gen_project.OPTIONAL.values() for path in paths}:
            assert (rendering.project / path).exists() is (path in kept), f"{rendering}: {path}"


def test_one_project_holds_the_same_files_as_the_template(template: Path, tmp_path: Path) -> None:
    """Nothing of the template is lost on the way but what the table takes out."""
    answers = everything(on=True)
    project = render(template, tmp_path / "out", answers)
    gone = [
        path
        for condition, paths in post_gen_project.OPTIONAL.items()
        if not post_gen_project.holds(condition, answers)
        for path in paths
    ]
    names = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    expected = {
        path.relative_to(template / SERVICE).as_posix()
        for path in (template / SERVICE).rglob("*")
        if path.is_file()
    }
    kept = {name for name in expected if not any((name + "/").startswith(f"{p}/") for p in gone)}
    assert names == kept | {".cookiecutter.json"}


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


def test_variants_have_names_of_their_own() -> None:
    """A name says which variant to run again."""
    names = [variant.name for variant in load_variants()]
    assert len(set(names)) == len(names)
