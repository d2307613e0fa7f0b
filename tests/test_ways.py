"""The template works in every way in which people use one: cookiecutter, uvx and cruft."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from projects import UV, files_of, render, run
from variants import SERVICE

if TYPE_CHECKING:
    from pathlib import Path

COOKIECUTTER = (sys.executable, "-m", "cookiecutter")
CRUFT = (sys.executable, "-m", "cruft")
IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}
OTHER = {"project_name": 'Say "hi" 🚀', "web_page": False, "ci": "gitlab", "license": "Apache-2.0"}


def commit(repository: Path, message: str) -> None:
    """Commit everything that is there, in a new repository if there is none yet."""
    if not (repository / ".git").exists():
        run(["git", "init", "--quiet", "--initial-branch=main"], repository)
    run(["git", "add", "--all"], repository)
    run(["git", "commit", "--quiet", "--message", message], repository, **IDENTITY)


@pytest.fixture
def repository(template: Path, tmp_path: Path) -> Path:
    """Return a git repository that holds the template."""
    path = shutil.copytree(template, tmp_path / "repository")
    commit(path, "The template")
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home directory in which nothing was ever run."""
    path = tmp_path / "home"
    path.mkdir()
    return path


def only_project(directory: Path) -> Path:
    """Return the one project in a directory."""
    (project,) = directory.iterdir()
    return project


def same(one: Path, other: Path) -> bool:
    """Compare two projects, but for where their template came from."""

    def content(project: Path) -> dict[str, bytes]:
        return {n: data for n, data in files_of(project).items() if n != ".cookiecutter.json"}

    return content(one) == content(other)


def test_from_git(template: Path, repository: Path, home: Path, tmp_path: Path) -> None:
    """A clone gives the same project as a directory does."""
    from_path = render(template, tmp_path / "path", {})
    (tmp_path / "git").mkdir()
    url = f"file://{repository}"
    run([*COOKIECUTTER, url, "--no-input"], tmp_path / "git", HOME=str(home))
    project = only_project(tmp_path / "git")
    assert same(project, from_path)
    assert json.loads((project / ".cookiecutter.json").read_text("utf-8"))["template"] == url


def test_replay(template: Path, home: Path, tmp_path: Path) -> None:
    """--replay makes the same project again, without a question."""
    answers = [f"{name}={value}" for name, value in OTHER.items()]
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    run([*COOKIECUTTER, template, "--no-input", *answers], first, HOME=str(home))
    run([*COOKIECUTTER, template, "--replay"], second, HOME=str(home))
    assert files_of(first) == files_of(second)


def test_the_record_is_a_config_file(template: Path, home: Path, tmp_path: Path) -> None:
    """--config-file takes the answers that a project recorded, whatever is in them."""
    first = render(template, tmp_path / "first", OTHER)
    (tmp_path / "second").mkdir()
    record = first / ".cookiecutter.json"
    run(
        [*COOKIECUTTER, template, "--no-input", "--config-file", record],
        tmp_path / "second",
        HOME=str(home),
    )
    second = only_project(tmp_path / "second")
    assert files_of(first) == files_of(second)


def test_rendering_over_a_project(template: Path, home: Path, tmp_path: Path) -> None:
    """A project rendered over itself is as it was, and what the user added is still there."""
    project = render(template, tmp_path / "out", OTHER)
    (project / ".venv" / "lib").mkdir(parents=True)
    (project / ".venv" / "lib" / "mine.py").write_text("x  # optional: web_page\n", "utf-8")
    for directory in ("app", "tests", "app/api"):
        (project / directory / "mine.py").write_text("x = 1  # optional: speed\n", "utf-8")
    before = files_of(project)
    config = ["--config-file", str(project / ".cookiecutter.json")]
    command = [*COOKIECUTTER, str(template), "--no-input", "--overwrite-if-exists", *config]
    run(command, project.parent, HOME=str(home))
    assert files_of(project) == before


def test_uvx(template: Path, tmp_path: Path) -> None:
    """`uvx cookiecutter` needs nothing installed."""
    (tmp_path / "out").mkdir()
    uvx = [UV, "tool", "run", "--python", sys.executable, "cookiecutter"]
    settings = tmp_path / "config.yaml"
    settings.write_text(f"replay_dir: {tmp_path / 'replay'}\n", "utf-8")
    run([*uvx, template, "--no-input", "--config-file", settings], tmp_path / "out")
    assert same(only_project(tmp_path / "out"), render(template, tmp_path / "path", {}))


def test_cruft_update(repository: Path, home: Path, tmp_path: Path) -> None:
    """A project of an older template, changed since, takes in what the template changed since."""
    newest = files_of(repository / SERVICE)
    makefile = repository / SERVICE / "Makefile"
    makefile.write_text(makefile.read_text("utf-8").replace("## lint, format,", "## old:"), "utf-8")
    (repository / SERVICE / "app" / "web" / "old.css").write_text("p {}\n", "utf-8")
    commit(repository, "An older template")
    output = tmp_path / "out"
    output.mkdir()
    answers = json.dumps({"project_name": 'Say "hi" 🚀', "project_slug": "svc"})
    run(
        [*CRUFT, "create", f"file://{repository}", "--no-input", "--extra-context", answers],
        output,
        HOME=str(home),
    )
    project = output / "svc"
    assert (project / "app" / "web" / "old.css").exists()
    mine = project / "app" / "settings.py"
    mine.write_text(mine.read_text("utf-8") + "\nMINE = 1\n", "utf-8")
    makefile = project / "Makefile"
    makefile.write_text(makefile.read_text("utf-8") + "\nmine:\n\ttrue\n", "utf-8")
    shutil.rmtree(project / "tests")
    commit(project, "Mine")

    for name, content in newest.items():
        (repository / SERVICE / name).write_bytes(content)
    (repository / SERVICE / "app" / "web" / "old.css").unlink()
    (repository / SERVICE / "app" / "new.py").write_text("NEW = 1\n", "utf-8")
    options = json.loads((repository / "cookiecutter.json").read_text("utf-8"))
    text = json.dumps({**options, "_version": "99.0.0"})
    (repository / "cookiecutter.json").write_text(text, "utf-8")
    commit(repository, "A newer template")
    run([*CRUFT, "update", "--skip-apply-ask"], project, HOME=str(home), **IDENTITY)

    assert not list(project.rglob("*.rej"))
    assert "<<<<<<<" not in makefile.read_text("utf-8")
    assert "## lint, format," in makefile.read_text("utf-8")
    assert makefile.read_text("utf-8").endswith("\nmine:\n\ttrue\n")
    assert mine.read_text("utf-8").endswith("\nMINE = 1\n")
    assert (project / "app" / "new.py").read_text("utf-8") == "NEW = 1\n"
    assert not (project / "app" / "web" / "old.css").exists()
    assert not (project / "tests").exists()
    recorded = json.loads((project / ".cookiecutter.json").read_text("utf-8"))
    assert recorded["version"] == "99.0.0"
    assert recorded["default_context"]["project_name"] == 'Say "hi" 🚀'
    assert run([*CRUFT, "check"], project, HOME=str(home))
