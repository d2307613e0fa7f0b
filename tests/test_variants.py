"""The covering variants, each in an environment of its own, run the commands that a user runs.

One of them again: make test ARGS="-k NAME", with the name in brackets.
"""

from __future__ import annotations

import os
import re
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from interpreters import interpreter
from projects import UV, copy_template, render, run, run_tests
from variants import SERVICE, Variant, everything, load_variants

if TYPE_CHECKING:
    from pathlib import Path

NAME = 'Ünï "Çhat" \\ 👩‍💻'
TOOLS = ("ruff check .", "ruff format --check .", "mypy", "lint-imports")


@pytest.mark.parametrize("variant", load_variants(), ids=lambda variant: variant.name)
def test_variant(variant: Variant, template: Path, tmp_path: Path) -> None:
    """A user who chooses this passes `make check` and `make test`."""
    python = interpreter(variant.python)
    project = render(template, tmp_path, {"project_name": NAME, **variant.answers})
    run(["make", "check"], project, UV=UV, UV_PYTHON=python)
    # A root of its own for its temporary files: on the common one each pytest that starts takes
    # away the right to look inside, which a PostgreSQL that runs as another user needs.
    with TemporaryDirectory(prefix="v") as root:
        setting = {"UV": UV, "UV_PYTHON": python, "PYTEST_DEBUG_TEMPROOT": root}
        report = run_tests(["make", "test"], project, **setting)
    assert re.search(r"\b[1-9]\d* passed", report), report


def test_unrendered(tmp_path: Path) -> None:
    """The template itself, with every feature in, is a project that its own tools accept.

    uv cannot read that pyproject.toml, so the environment is that of a project rendered without
    hooks: one that asks for the dependencies of every feature at once.
    """
    template = copy_template(tmp_path / "template")
    answers = everything(on=True)
    project = render(template, tmp_path / "out", answers, hooks=False)
    run([UV, "sync", "--quiet"], project, UV_PYTHON=interpreter(str(answers["python_version"])))
    programs = project / ".venv" / ("Scripts" if os.name == "nt" else "bin")
    for command in TOOLS:
        name, *arguments = command.split()
        run([programs / name, *arguments], template / SERVICE)
    with TemporaryDirectory(prefix="v") as root:
        run_tests([programs / "pytest"], template / SERVICE, PYTEST_DEBUG_TEMPROOT=root)
