"""A store in one SQLite file: nothing to install, nothing to run beside the service.

Search is hybrid: exact over the vectors, which are held in memory, and by words with FTS5. Any
number of processes on one machine may use the file at the same time (its WAL mode needs a local
disk, no network file system); each holds the vectors in memory once it has searched.

Needs `protocol`, `storable`, `fusing`, `words`, `sqlite_connections`, `sqlite_documents`,
`sqlite_matrix`, `sqlite_schema`, `sqlite_search` and `sqlite_words` beside it, NumPy, and a Python
whose SQLite has FTS5; no extension is loaded.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from . import sqlite_documents as documents
from .protocol import Document, Hit, Passage, Vector
from .sqlite_connections import Connections, database_file
from .sqlite_matrix import Matrix
from .sqlite_schema import count, set_up
from .sqlite_search import search

BUSY_TIMEOUT = 10.0


class SqliteStore:
    """A DocumentStore in a file, which is made if need be, with its folder.

    `address`: sqlite:///relative.db, sqlite:////absolute/path.db or a Path; else ValueError.
    `model`: the name of the embedding model whose vectors it holds.
    `busy_timeout`: seconds for which a change waits for those of other processes.
    """

    def __init__(
        self, address: str | Path, *, model: str, busy_timeout: float = BUSY_TIMEOUT
    ) -> None:
        self._model = model
        self._matrix = Matrix()
        self._connections = Connections(database_file(address), busy_timeout=busy_timeout)

    async def __aenter__(self) -> Self:
        try:
            await self._connections.write(partial(set_up, model=self._model))
        except BaseException:
            await self._connections.close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._connections.close()

    async def submit(self, document: Document, content: bytes) -> None:
        """Queue a document in place of an earlier revision, whose passages stay for now."""
        await self._connections.write(partial(documents.submit, document=document, content=content))

    async def document(self, document_id: str) -> Document | None:
        """Return a document; None if there is no such one."""
        return await self._connections.read(partial(documents.read, document_id=document_id))

    async def begin(self, document_id: str) -> tuple[Document, bytes] | None:
        """Return a document to work on and its content; None if there is nothing to do."""
        return await self._connections.write(partial(documents.begin, document_id=document_id))

    async def upsert(
        self, document_id: str, revision: str, passages: Sequence[Passage], *, title: str = ""
    ) -> bool:
        """Replace the document's passages; False if the revision is no longer its own."""
        return await self._connections.write(
            partial(
                documents.upsert,
                model=self._model,
                document_id=document_id,
                revision=revision,
                passages=passages,
                title=title,
            )
        )

    async def fail(self, document_id: str, revision: str, error: str) -> None:
        """Give up on this revision, unless it is stored already."""
        await self._connections.write(
            partial(documents.fail, document_id=document_id, revision=revision, error=error)
        )

    async def search(self, text: str, vector: Vector, *, limit: int) -> list[Hit]:
        """Find passages by the vector and by the words of the text, best first."""
        return await self._connections.read(
            partial(
                search,
                matrix=self._matrix,
                model=self._model,
                text=text,
                vector=vector,
                limit=limit,
            )
        )

    async def delete(self, document_id: str) -> bool:
        """Remove the document and its passages; False if there was none."""
        return await self._connections.write(partial(documents.delete, document_id=document_id))

    async def unfinished(self) -> list[str]:
        """List what is queued or processing, the oldest first."""
        return await self._connections.read(documents.unfinished)

    async def count(self) -> int:
        """Count the passages."""
        return await self._connections.read(count)
