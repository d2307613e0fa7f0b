"""Small is a feature: whoever generates a service owns every line of it, so each has a budget.

A line is a line, whether it holds code, a comment or nothing. A budget is met by leaving things
out, not by squeezing: the share of comments and docstrings has a floor.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest

from projects import render
from variants import SERVICE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Lines(NamedTuple):
    """The most lines that there may be in app/ and in tests/."""

    app: int
    tests: int


# What stands, rounded up; behind each number what it must come down to.
WHOLE = {
    "default": Lines(8_450, 11_000),  # 6,800 and 9,000
    "least": Lines(6_110, 8_400),  # 4,800 and 6,000
    "un-rendered": Lines(9_840, 12_750),  # 9,000 and 12,000
}
DOCUMENTS_SIDE = {
    "default": Lines(2_700, 2_920),  # 2,400 and 2,700
    "least": Lines(360, 320),
    "un-rendered": Lines(3_370, 3_660),  # 2,900 and 2,700
}
LEAST_EXPLAINED = {"default": 0.166, "un-rendered": 0.159}
"""The share of the lines of app/ that are comments or docstrings."""
MOST_FILES = 10
MOST_IN_APP = 12
OVERFULL: dict[str, int] = {}
"""Files in folders that hold too many."""

ON_DOCUMENTS_SIDE = re.compile(
    r"(documents|stores|embeddings|retrieval|websearch)/"
    r"|(api|wiring)/(test_)?(documents|pages|retrieval|websearch)\.py$"
    r"|api/documents/|(test_)?(ingest|worker|whole)\.py$"
)
NOT_PYTHON = {".css", ".html", ".js"}


def python_files(project: Path, top: str) -> Iterator[tuple[str, str]]:
    """Read what is Python, by its path in `top`: each file but those of NOT_PYTHON."""
    for path in sorted((project / top).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            text = path.read_bytes().decode("utf-8", "replace")
            if path.suffix not in NOT_PYTHON or re.match("#!.*python", text):
                yield path.relative_to(project / top).as_posix(), text


def explained(source: str) -> int:
    """Count the lines that hold nothing but a comment, or belong to a docstring."""
    lines = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#"):
            lines.add(token.start[0])
    return len(lines)


@pytest.fixture(scope="module")
def projects(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Render what has a budget."""
    root = tmp_path_factory.mktemp("budgets")
    least = {"vector_store": "none", "ingestion_client": False}
    return {
        "default": render(template, root / "default", {}),
        "least": render(template, root / "least", least),
        "un-rendered": template / SERVICE,
    }


def count(project: Path, files: re.Pattern[str] | None = None) -> Lines:
    """Count the lines of the Python files, or of those whose paths in app/ or tests/ match."""
    app, tests = (
        sum(
            len(text.splitlines())
            for path, text in python_files(project, top)
            if not files or files.match(path)
        )
        for top in Lines._fields
    )
    return Lines(app, tests)


@pytest.mark.parametrize("name", WHOLE)
def test_lines(projects: dict[str, Path], name: str) -> None:
    """A project is not larger than its budget."""
    lines = count(projects[name])
    assert lines.app <= WHOLE[name].app
    assert lines.tests <= WHOLE[name].tests


@pytest.mark.parametrize("name", DOCUMENTS_SIDE)
def test_lines_of_the_documents_side(projects: dict[str, Path], name: str) -> None:
    """Nor is all that finds documents, keeps them or works on them."""
    lines = count(projects[name], ON_DOCUMENTS_SIDE)
    assert lines.app <= DOCUMENTS_SIDE[name].app
    assert lines.tests <= DOCUMENTS_SIDE[name].tests


@pytest.mark.parametrize("name", LEAST_EXPLAINED)
def test_comments(projects: dict[str, Path], name: str) -> None:
    """The code says as much about itself as it did before it shrank."""
    sources = [text for path, text in python_files(projects[name], "app") if path.endswith(".py")]
    share = sum(map(explained, sources)) / sum(len(source.splitlines()) for source in sources)
    assert share >= LEAST_EXPLAINED[name]


@pytest.mark.parametrize("top", ["app", "tests"])
def test_folders(projects: dict[str, Path], top: str) -> None:
    """A folder holds what a reader can take in at a glance."""
    service = projects["un-rendered"]
    files = (path for path in (service / top).rglob("*") if path.is_file())
    counts = Counter(path.parent.relative_to(service).as_posix() for path in files)
    most = {folder: MOST_IN_APP if folder == "app" else MOST_FILES for folder in counts} | OVERFULL
    assert {folder: count for folder, count in counts.items() if count > most[folder]} == {}
