"""Mutations of the limiter, the window, the router and the relay: each must be caught by a test.

The default run checks that each mutation still fits the code. With `--nightly` each is applied to a
copy of the un-rendered service, in which the tests that guard its rule must then fail.
"""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from projects import copy_template, run_pytest
from smoke import program
from variants import ROOT, SERVICE


class Mutation(NamedTuple):
    """In the file `path`, `old` becomes `new`; then `rule` does not hold and `tests` must fail."""

    rule: str
    path: str
    old: str
    new: str
    tests: str

    def __str__(self) -> str:
        return self.rule


TABLE = tomllib.loads((Path(__file__).parent / "mutations.toml").read_text("utf-8"))
MUTATIONS = [Mutation(**mutation) for mutation in TABLE["mutation"]]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_fits(mutation: Mutation) -> None:
    """The text that a mutation replaces is in its file, once, and its tests exist."""
    assert (ROOT / SERVICE / mutation.path).read_text("utf-8").count(mutation.old) == 1
    assert all((ROOT / SERVICE / path).exists() for path in mutation.tests.split())


@pytest.mark.nightly
@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_is_caught(mutation: Mutation, everything_installed: Path, tmp_path: Path) -> None:
    """The tests that guard the rule fail, or do not end."""
    service = copy_template(tmp_path) / SERVICE
    file = service / mutation.path
    file.write_text(file.read_text("utf-8").replace(mutation.old, mutation.new), "utf-8")
    pytest_ = program(everything_installed, "pytest")
    with pytest.raises(AssertionError, match=r"exit status (1|2|124)$"):
        run_pytest(["timeout", "600", pytest_, "-x", *mutation.tests.split()], service)
    shutil.rmtree(tmp_path)
