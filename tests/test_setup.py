"""What the make targets need is set up on first use; the versions agree with each other."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from projects import UV, render, run
from variants import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path_without_uv(tmp_path: Path) -> str:
    """Return a PATH on which there are a shell, make and Python, but no uv."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("sh", "make", "git"):
        (directory / name).symlink_to(shutil.which(name) or name)
    (directory / "python3").symlink_to(sys.executable)
    return str(directory)


@pytest.mark.parametrize("which", ["template", "service"])
def test_uv_is_installed_where_it_is_missing(
    template: Path, tmp_path: Path, path_without_uv: str, which: str
) -> None:
    """Without uv on the PATH, the first target that needs it installs it beside the project."""
    project = template if which == "template" else render(template, tmp_path / "out", {})
    environment = {"UV": None, "PATH": path_without_uv, "PYTHON": sys.executable}
    planned = run(["make", "--dry-run", "check"], project, **environment)
    assert "-m pip install" in planned
    assert '".venv-uv/bin/uv" run ruff' in planned
    run(["make", ".venv-uv/bin/uv"], project, **environment)
    assert run([project / ".venv-uv/bin/uv", "--version"], project).startswith("uv ")
    assert "-m pip install" not in run(["make", "--dry-run", "check"], project, **environment)


def test_uv_on_the_path_is_used(template: Path, tmp_path: Path) -> None:
    """Nothing is installed where uv is there already."""
    project = render(template, tmp_path / "out", {})
    path = os.pathsep.join([os.path.dirname(UV), os.environ["PATH"]])  # noqa: PTH120
    planned = run(["make", "--dry-run", "test"], project, UV=None, PATH=path)
    assert planned.strip() == '"uv" run pytest'


def test_one_version(template: Path, tmp_path: Path) -> None:
    """The template's version is one, and so is a new project's."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert json.loads((ROOT / "cookiecutter.json").read_text("utf-8"))["_version"] == version
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    project = render(template, tmp_path / "out", {})
    source = (project / "app" / "__init__.py").read_text("utf-8")
    (own,) = re.findall(r'^__version__ = "(.*)"$', source, re.MULTILINE)
    pyproject = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    assert pyproject["project"]["version"] == own


@pytest.mark.parametrize(
    ("license_", "first", "spdx"),
    [
        ("MIT", "MIT License", "MIT"),
        ("Apache-2.0", "Apache License", "Apache-2.0"),
        ("BSD-3-Clause", "BSD 3-Clause License", "BSD-3-Clause"),
        ("Proprietary", "Copyright (c) 20", "LicenseRef-Proprietary"),
    ],
)
def test_licence(template: Path, tmp_path: Path, license_: str, first: str, spdx: str) -> None:
    """The licence is the chosen one's text, with its holder, and the metadata names it."""
    answers = {"license": license_, "author_name": "Ada & Söhne"}
    project = render(template, tmp_path / "out", answers)
    text = (project / "LICENSE").read_text("utf-8")
    assert text.lstrip(" ").startswith(first)
    assert re.search(r"^ *Copyright .*20\d\d Ada & Söhne", text, re.MULTILINE)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    pyproject = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    assert pyproject["project"]["license"] == spdx
