"""The Qdrant store works in a project of another name, with the files it names."""

from pathlib import Path

import app.stores
from tests.copying import needs, use_copied

PACKAGE = Path(app.stores.__file__).parent

QDRANT = """
import asyncio
import warnings
import numpy as np
from qdrant_client import AsyncQdrantClient
from theirs.protocol import Document, Passage
from theirs.qdrant import QdrantStore

warnings.filterwarnings("ignore", "Payload indexes have no effect")

def client():
    return AsyncQdrantClient(location=":memory:")

async def main():
    vector = np.array([0.6, 0.8], np.float32)
    async with QdrantStore("http://localhost:6333", model="mine", client=client) as store:
        await store.submit(Document("d", "1", "A title"), b"content")
        document, content = await store.begin("d")
        await store.upsert("d", "1", [Passage(content.decode(), vector)])
        print(*[(hit.title, hit.text) for hit in await store.search("?", vector, limit=3)])

asyncio.run(main())
"""


def test_qdrant_works_copied(tmp_path: Path) -> None:
    """It needs NumPy, qdrant-client and the files it names."""
    out = use_copied(tmp_path, PACKAGE, "qdrant", QDRANT, installed=True)
    assert out == "('A title', 'content')"


def test_no_file_too_many() -> None:
    """Whoever takes this store takes no other."""
    qdrant = {path.stem for path in PACKAGE.glob("qdrant*.py")}
    assert needs(PACKAGE, "qdrant") == qdrant | {"protocol", "storable"}
    assert needs(PACKAGE, "qdrant_opening") == {"qdrant_opening", "protocol"}
