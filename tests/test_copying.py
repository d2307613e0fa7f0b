"""The packages work in an empty project, and docs/copying.md's examples do what it says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from projects import run
from smoke import program
from variants import ROOT, SERVICE

USES = Path(__file__).parent / "copying" / "uses.py"
EXAMPLE = re.compile(r"^```python (?P<path>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
COPIES = {
    "concurrency": "concurrency",
    "ratelimit": "ratelimit",
    "llm": "llm",
    "http": "http",
    "retrieval": "retrieval",
    "stores": "stores embeddings",
    "documents": "documents stores embeddings retrieval",
    "websearch": "websearch",
    "drain": "drain.py",
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
    guide = (ROOT / "docs/copying.md").read_text("utf-8")
    for example in EXAMPLE.finditer(guide):
        (tmp_path / example["path"]).write_text(example["text"], encoding="utf-8")
    shutil.copy(USES, tmp_path)
    run([program(everything_installed, "python"), "-W", "error", USES.name, use], tmp_path)
