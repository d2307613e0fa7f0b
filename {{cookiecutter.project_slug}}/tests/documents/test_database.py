"""Which databases a catalogue refuses."""

import sqlite3
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from app.documents.catalogue import Catalogue
from app.documents.database import CatalogueMismatchError
from app.stores.base import StoreUnavailableError
from tests.documents.parts import MODEL

with_sqlite = pytest.mark.skipif(not find_spec("aiosqlite"), reason="needs SQLite's driver")


@with_sqlite
async def test_older_schema_is_refused(tmp_path: Path) -> None:
    """A database of an older version is refused and left as it is."""
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE documents (id TEXT, revision TEXT, state TEXT)")
    async with Catalogue(f"sqlite:///{path}", model=MODEL) as catalogue:
        with pytest.raises(CatalogueMismatchError, match="older version"):
            await catalogue.set_up()
    with closing(sqlite3.connect(path)) as database:
        assert len(database.execute("SELECT * FROM sqlite_schema").fetchall()) == 1


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


@with_sqlite
async def test_database_that_is_not_available(tmp_path: Path) -> None:
    """The error names the reason, and the next use tries again."""
    folder = tmp_path / "folder"
    folder.write_text("a file in the way")
    async with Catalogue(f"sqlite:///{folder}/documents.db", model=MODEL) as catalogue:
        with pytest.raises(StoreUnavailableError, match="catalogue"):
            await catalogue.set_up()
        folder.unlink()
        await catalogue.set_up()
