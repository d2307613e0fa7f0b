"""How the tests of a rendered project are run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from projects import UnstableTestWarning, run_tests

if TYPE_CHECKING:
    from pathlib import Path

PYTEST = [sys.executable, "-m", "pytest", "-q"]


def write_tests(project: Path, second: str) -> None:
    """Write a test that passes, and one that does so if the other has left this many marks."""
    (project / "test_it.py").write_text(
        f"""
from pathlib import Path

RUNS = Path(__file__).with_name("runs")

def test_first():
    RUNS.open("a").write("first ")

def test_second():
    with RUNS.open("a") as runs:
        runs.write("second ")
    assert {second}
"""
    )


def test_what_fails_once_is_run_again_and_reported(tmp_path: Path) -> None:
    """Only that is run again; the warning holds what it said the first time."""
    write_tests(tmp_path, 'RUNS.read_text().count("second") == 2')
    with pytest.warns(UnstableTestWarning, match=r"(?s)FAILED test_it\.py::test_second.*status 1"):
        assert "1 passed" in run_tests(PYTEST, tmp_path)
    assert (tmp_path / "runs").read_text() == "first second second "


def test_what_fails_twice_fails(tmp_path: Path) -> None:
    """The run ends with what it said the second time."""
    write_tests(tmp_path, 'RUNS.read_text().count("second") > 2')
    with pytest.raises(AssertionError, match="assert 2 > 2"):
        run_tests(PYTEST, tmp_path)


def test_a_run_without_a_failed_test_is_no_second_chance(tmp_path: Path) -> None:
    """Such as one that pytest could not begin."""
    with pytest.raises(AssertionError, match="exit status 5"):
        run_tests(PYTEST, tmp_path)
