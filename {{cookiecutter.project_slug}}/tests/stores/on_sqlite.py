"""SQLite under the stores' contract: a file for each test."""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path

from app.stores.sqlite import SqliteStore
from tests.stores.contract import MODEL, OpenStore

FINDS_BY_WORDS = True
BAD_ADDRESS = "sqlite:///:memory:"


def server(_folder: Path) -> AbstractContextManager[None]:
    """There is none."""
    return nullcontext()


@asynccontextmanager
async def database(_server: None, folder: Path) -> AsyncIterator[OpenStore]:
    """Provide a file that is not there yet."""

    def open_store(model: str = MODEL) -> SqliteStore:
        return SqliteStore(address(None, folder / "new"), model=model)

    yield open_store


def address(_server: None, folder: Path) -> str:
    """Provide a file that is not there yet."""
    return f"sqlite:///{folder}/documents.db"
