"""The PostgreSQL store works in a project of another name, with the files it names."""

from pathlib import Path

import pytest

import app.stores
from tests.copying import needs, use_copied
from tests.stores.on_pgvector import PostgresServer, new_database

PACKAGE = Path(app.stores.__file__).parent

PROGRAM = """
import asyncio
import shutil
import numpy as np
from theirs.protocol import Document, Passage
from theirs.pgvector import PgvectorStore

async def main():
    vector = np.array([0.6, 0.8], np.float32)
    async with PgvectorStore({address!r}, model="mine") as store:
        await store.submit(Document("d", "1", "A title"), b"content")
        document, content = await store.begin("d")
        await store.upsert("d", "1", [Passage(content.decode(), vector)])
        print(*[(hit.title, hit.text) for hit in await store.search("?", vector, limit=3)])

shutil.copytree({folder!r}, "theirs/pgvector_migrations")
asyncio.run(main())
"""


@pytest.mark.parametrize("engine", ["pgvector"], indirect=True)
def test_pgvector_works_copied(tmp_path: Path, server: PostgresServer) -> None:
    """It needs the packages, files and the folder that it names."""
    with new_database(server) as name:
        program = PROGRAM.format(
            address=server.address(name), folder=str(PACKAGE / "pgvector_migrations")
        )
        out = use_copied(tmp_path, PACKAGE, "pgvector", program, installed=True)
    assert out == "('A title', 'content')"


def test_no_file_too_many() -> None:
    """Whoever takes this store takes no other."""
    pgvector = {path.stem for path in PACKAGE.glob("pgvector*.py")}
    shared = {"protocol", "storable", "fusing", "words"}
    assert needs(PACKAGE, "pgvector") == pgvector | shared
