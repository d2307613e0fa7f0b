"""SQLite under the stores' contract: a file for each test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

from app.stores.sqlite import SqliteStore

ATOMIC = STEMS = SERVED = True
BAD_ADDRESS = "sqlite:///:memory:"
server = nullcontext


@asynccontextmanager
async def database(_server: Path, folder: Path) -> AsyncIterator[str]:
    """Provide a file that does not exist yet, nor does its folder."""
    yield f"sqlite:///{folder}/new/documents.db"


def nowhere(folder: Path) -> str:
    """Return a file below a file."""
    (folder / "file").touch()
    return f"sqlite:///{folder}/file/documents.db"


def store(_server: Path, address: str) -> SqliteStore:
    """Make a store."""
    return SqliteStore(address)
