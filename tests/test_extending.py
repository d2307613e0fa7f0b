"""docs/extending.md: its changes are made to a rendered project, and do what the text says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from interpreters import interpreter
from projects import UV, render, run, run_pytest, write_examples
from smoke import program
from variants import ROOT, defaults

CHECKS = Path(__file__).parent / "extending" / "checks.py"
PATCH = re.compile(r"^```diff\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_changes(template: Path, tmp_path: Path) -> None:
    """All changes together apply, pass the linter, and do what the text says."""
    project = render(template, tmp_path / "out", {})
    write_examples("docs/extending.md", project)
    patch = tmp_path / "changes.diff"
    for change in PATCH.findall((ROOT / "docs/extending.md").read_text("utf-8")):
        patch.write_text(change, encoding="utf-8")
        run(["git", "apply", "--recount", "--unidiff-zero", patch], project)
    shutil.copy(CHECKS, project / "tests/test_extended.py")
    python = interpreter(str(defaults()["python_version"]))
    run([UV, "add", "--quiet", "pyjwt"], project, UV_PYTHON=python)
    run([UV, "sync", "--quiet"], project, UV_PYTHON=python)
    run([program(project, "ruff"), "check", "app"], project)
    run([program(project, "ruff"), "format", "--check", "app"], project)
    report = run_pytest([program(project, "pytest"), "tests/test_extended.py"], project)
    assert "8 passed" in report
