"""How the tests make projects and run commands in them, as a user would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cookiecutter.main import cookiecutter

from variants import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

UV = os.environ.get("UV") or shutil.which("uv") or "uv"  # uv run names itself
COMMAND_TIMEOUT = 900
REPORTED_LINES = 120
REPORTED_WIDTH = 300
EXAMPLE = re.compile(r"^```python (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LEAKING = ("PYTEST_", "COV_", "HYPOTHESIS_", "MAKE", "MFLAGS", "VIRTUAL_ENV", "ARGS", "DEMO_")


def files_in_git(directory: Path) -> list[Path]:
    """List what git tracks or could track in a directory, as paths in there."""
    listing = run(["git", "ls-files", "-z", "-co", "--exclude-standard"], directory)
    names = filter(None, listing.split("\0"))
    return [Path(name) for name in names if (directory / name).is_file()]  # else deleted since


def copy_template(destination: Path) -> Path:
    """Copy the template as git would hand it over."""
    for name in files_in_git(ROOT):
        (destination / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, destination / name)
    return destination


def render(template: Path, output: Path, answers: Mapping[str, Any], *, hooks: bool = True) -> Path:
    """Render the template in this process; cookiecutter's exceptions pass through."""
    output.mkdir(parents=True, exist_ok=True)
    project = cookiecutter(
        str(template),
        no_input=True,
        extra_context=dict(answers),
        output_dir=str(output),
        accept_hooks=hooks,
        default_config={"replay_dir": str(output.parent / f"{output.name}.replay")},
    )
    return Path(project)


def clean_environment(**changes: str | None) -> dict[str, str]:
    """Return the environment without what this test run put into it; None takes a name out."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LEAKING)}
    return {name: value for name, value in {**kept, **changes}.items() if value is not None}


def run(command: Sequence[str | Path], cwd: Path, **environment: str | None) -> str:
    """Run a command and return its standard output; an exit status but 0 fails the test."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=COMMAND_TIMEOUT,
        check=False,
    )
    shown = textwrap.shorten(" ".join(map(str, command)), REPORTED_WIDTH)
    end = "\n".join(f"{done.stdout}\n{done.stderr}".splitlines()[-REPORTED_LINES:])
    assert done.returncode == 0, f"$ {shown}\n{end}\nexit status {done.returncode}"
    return done.stdout


def run_pytest(command: Sequence[str | Path], cwd: Path, **environment: str | None) -> str:
    """Run pytest by this command and return its report; no test may fail, and some must pass.

    The root of its temporary files is its own: on the common one, each pytest that starts takes
    away the right to look inside, which a PostgreSQL that runs as another user needs.
    """
    with TemporaryDirectory(prefix="v") as root:
        report = run(command, cwd, PYTEST_DEBUG_TEMPROOT=root, **environment)
    assert re.search(r"\b[1-9]\d* passed", report), report
    return report


def write_examples(guide: str, project: Path) -> None:
    """Write the Python files that a guide shows, each block by the path in its first line."""
    for path, text in EXAMPLE.findall((ROOT / guide).read_text("utf-8")):
        (project / path).write_text(text, encoding="utf-8")


def files_of(project: Path) -> dict[str, bytes]:
    """Read a whole tree, for comparisons."""
    return {
        path.relative_to(project).as_posix(): path.read_bytes()
        for path in sorted(project.rglob("*"))
        if path.is_file()
    }
