"""Find an interpreter of a given version that is already on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


def interpreter(version: str) -> str:
    """Return the path of Python `version`; a missing one skips the test, or fails it in CI."""
    for candidate in candidates(version):
        if runs(candidate, version):
            return str(candidate)
    message = f"Python {version} is not on this machine (on the PATH, in pyenv, or in uv)"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def candidates(version: str) -> Iterator[Path]:
    """Look where interpreters usually are."""
    if given := os.environ.get("UV_PYTHON"):
        yield Path(given)
    for name in (f"python{version}", "python3"):
        if found := shutil.which(name):
            yield Path(found)
    for root in pyenv_roots():
        yield from sorted(root.glob(f"versions/{version}.*/bin/python"), reverse=True)
    managed = os.environ.get("UV_PYTHON_INSTALL_DIR", Path.home() / ".local/share/uv/python")
    yield from sorted(Path(managed).glob(f"cpython-{version}.*/bin/python{version}"), reverse=True)


def pyenv_roots() -> Iterator[Path]:
    """Find pyenv by its variable, by its usual place and by its shims on the PATH."""
    if given := os.environ.get("PYENV_ROOT"):
        yield Path(given)
    yield Path.home() / ".pyenv"
    for entry in map(Path, os.environ.get("PATH", "").split(os.pathsep)):
        if entry.name == "shims":
            yield entry.parent


def runs(candidate: Path, version: str) -> bool:
    """Tell whether it starts (a shim may not) and is of that version."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [candidate, "-c", code], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() == version
