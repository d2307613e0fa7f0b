"""Which databases a catalogue refuses."""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from app.documents.catalogue import Catalogue, CatalogueMismatchError
from app.stores.base import StoreUnavailableError
from tests.documents.parts import MODEL


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://host/name", "should be like sqlite:///"),
        ("postgresql://host/name", "needs the package psycopg"),
    ],
)
def test_url_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, url: str, reason: str) -> None:
    """A URL of another kind, or without its driver, is refused by name."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ValueError, match=reason):
        Catalogue(url, model=MODEL)


async def test_sqlite_file_that_cannot_be_used(tmp_path: Path) -> None:
    """An unavailable file is named, and tried again; an older schema is refused and left alone."""
    pytest.importorskip("aiosqlite")
    folder = tmp_path / "folder"
    folder.write_text("a file in the way")
    async with Catalogue(f"sqlite:///{folder}/documents.db", model=MODEL) as catalogue:
        with pytest.raises(StoreUnavailableError, match="catalogue"):
            await catalogue.set_up()
        folder.unlink()
        folder.mkdir()
        with closing(sqlite3.connect(folder / "documents.db")) as database:
            database.execute("CREATE TABLE documents (id TEXT, revision TEXT, state TEXT)")
            with pytest.raises(CatalogueMismatchError, match="older version"):
                await catalogue.set_up()
            assert len(database.execute("SELECT * FROM sqlite_schema").fetchall()) == 1
