"""Copying a module into an empty project, with just the files that its docstring says it needs."""

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import app.errors


def needs(package: Path, module: str) -> set[str]:
    """Return a module, those beside it that its docstring says it needs, and those they need."""
    docstring = ast.get_docstring(ast.parse((package / f"{module}.py").read_text("utf-8"))) or ""
    said = re.search(r"\bNeeds.*?\.(?=\s|\Z)", docstring, re.DOTALL)
    assert said, f"{module} does not say what it needs"
    named = re.findall(r"`(\w+?)(?:\.py)?`", said[0])
    beside = [name for name in named if (package / f"{name}.py").exists()]
    return {module}.union(*(needs(package, name) for name in beside))


def use_copied(
    folder: Path, package: Path, module: str, program: str, *, installed: bool = False
) -> str:
    """Run a program beside a package `theirs` of a module and its needs; return its output.

    What is installed is out of reach, unless the module says that it needs some of it; of `app`
    there is `app.errors` alone.
    """
    theirs = folder / "theirs"
    theirs.mkdir()
    (theirs / "__init__.py").touch()
    (folder / "app").mkdir()
    (folder / "app/errors.py").write_bytes(Path(app.errors.__file__).read_bytes())
    for name in needs(package, module):
        (theirs / f"{name}.py").write_bytes((package / f"{name}.py").read_bytes())
    (folder / "program.py").write_text(textwrap.dedent(program), "utf-8")
    ran = subprocess.run(  # noqa: S603 -- our own program
        [sys.executable, "-W", "error", *([] if installed else ["-S"]), "program.py"],
        cwd=folder,
        env={},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    return ran.stdout.strip()
