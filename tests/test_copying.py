"""The packages work in an empty project, and docs/copying.md's examples do what it says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from projects import run, write_examples
from smoke import program
from variants import SERVICE

USES = Path(__file__).parent / "copying" / "uses.py"
COPIES = {
    "concurrency": "concurrency",
    "ratelimit": "ratelimit",
    "llm": "llm",
    "websearch": "websearch http",
    "documents": "documents stores embeddings retrieval",
}
"""For each use what is copied, beside errors.py."""


@pytest.mark.parametrize("use", COPIES)
def test_use(use: str, template: Path, everything_installed: Path, tmp_path: Path) -> None:
    """What is copied works without the service, under load and when calls are cancelled."""
    app = tmp_path / "app"
    app.mkdir()
    for name in ("errors.py", *COPIES[use].split()):
        source = template / SERVICE / "app" / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, app / name)
    write_examples("docs/copying.md", tmp_path)
    shutil.copy(USES, tmp_path)
    run([program(everything_installed, "python"), "-W", "error", USES.name, use], tmp_path)
