"""Mutations of the limiter, the window, the router and the relay: each must be caught by a test.

The default run checks that each mutation still fits the code. With `--nightly` each is applied to a
copy of the un-rendered service, in which the tests that guard its rule must then fail.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from mutations import MUTATIONS, Mutation
from projects import run
from smoke import program
from variants import ROOT, SERVICE

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_fits(mutation: Mutation) -> None:
    """The text that a mutation replaces is in its file, once, and its tests exist."""
    assert (ROOT / SERVICE / mutation.path).read_text("utf-8").count(mutation.old) == 1
    assert all((ROOT / SERVICE / path).exists() for path in mutation.tests.split())


@pytest.mark.nightly
@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_is_caught(
    mutation: Mutation, everything_installed: Path, unrendered: Path, tmp_path: Path
) -> None:
    """The tests that guard the rule fail."""
    service = tmp_path / "service"
    shutil.copytree(unrendered, service)
    file = service / mutation.path
    file.write_text(file.read_text("utf-8").replace(mutation.old, mutation.new), "utf-8")
    command = [program(everything_installed, "pytest"), "-x", *mutation.tests.split()]
    with pytest.raises(AssertionError, match="exit status 1"):
        run(command, service)
