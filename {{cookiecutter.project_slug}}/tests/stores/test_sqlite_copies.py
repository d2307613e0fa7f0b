"""The SQLite store works in a project of another name, with the files it names."""

from pathlib import Path

import app.stores
from tests.copying import needs, use_copied

PACKAGE = Path(app.stores.__file__).parent

SQLITE = """
import asyncio
import numpy as np
from theirs.protocol import Document, Passage
from theirs.sqlite import SqliteStore

async def main():
    vector = np.array([0.6, 0.8], np.float32)
    async with SqliteStore("sqlite:///data/documents.db", model="mine") as store:
        await store.submit(Document("d", "1", "A title"), b"content")
        document, content = await store.begin("d")
        await store.upsert("d", "1", [Passage(content.decode(), vector)])
        print(*[(hit.title, hit.text) for hit in await store.search("?", vector, limit=3)])

asyncio.run(main())
"""

STORABLE = """
from theirs.storable import storable

print(ascii(storable("a\\0b")))
"""


def test_sqlite_works_copied(tmp_path: Path) -> None:
    """It needs NumPy and the files it names."""
    out = use_copied(tmp_path, PACKAGE, "sqlite", SQLITE, installed=True)
    assert out == "('A title', 'content')"


def test_storable_works_copied(tmp_path: Path) -> None:
    """It needs the standard library alone: no installed package is in reach."""
    assert use_copied(tmp_path, PACKAGE, "storable", STORABLE) == r"'a\ufffdb'"


def test_no_file_too_many() -> None:
    """Whoever takes this store takes no other."""
    sqlite = {path.stem for path in PACKAGE.glob("sqlite*.py")}
    assert needs(PACKAGE, "sqlite") == sqlite | {"protocol", "storable", "fusing", "words"}
    assert needs(PACKAGE, "sqlite_matrix") == {
        "sqlite_matrix",
        "sqlite_schema",
        "sqlite_words",
        "protocol",
        "words",
    }
    assert needs(PACKAGE, "sqlite_words") == {"sqlite_words", "words"}
