"""Each module works in a project of another name, with what it says it needs and nothing else."""

from pathlib import Path

import pytest

import app.embeddings
from tests.copying import needs, use_copied

PACKAGE = Path(app.embeddings.__file__).parent

HASHING = """
import asyncio
from theirs.hashing import HashingEmbedder

async def main():
    one, near, far = await HashingEmbedder().embed(["a limit", "limits", "something else"])
    print(bool(one @ near > one @ far))

asyncio.run(main())
"""

REMOTE = """
import asyncio
from theirs.remote import RemoteEmbedder

async def call(body):
    return {"data": [{"index": 0, "embedding": [0.0, len(text)]} for text in body["input"]]}

print(asyncio.run(RemoteEmbedder(call, model="theirs").embed(["text"])).tolist())
"""


@pytest.mark.parametrize(
    ("module", "program", "output"),
    [("hashing", HASHING, "True"), ("remote", REMOTE, "[[0.0, 1.0]]")],
)
def test_a_copied_module_works(tmp_path: Path, module: str, program: str, output: str) -> None:
    """It needs NumPy and the files it names."""
    assert use_copied(tmp_path, PACKAGE, module, program, installed=True) == output


def test_no_file_too_many() -> None:
    """Whoever takes one embedder need not take the other."""
    assert needs(PACKAGE, "hashing") == {"hashing", "protocol"}
    assert needs(PACKAGE, "remote") == {"remote", "protocol"}
