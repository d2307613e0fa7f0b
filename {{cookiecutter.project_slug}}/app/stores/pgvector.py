"""A store in PostgreSQL with the pgvector extension, for a service of many processes or machines.

Search is hybrid: by vectors with an HNSW index, whose neighbours are approximate, and by words.
The tables are made and kept up to date by Alembic (`pgvector_migrations`), whoever starts first.
They go where the address's search path says, as `?options=-csearch_path%3Dmine,public` does.

A database that is away fails no start: each call tries again, and says within seconds that it is
unavailable; once it is back, calls work again. A server that answers nothing is given up after
seconds too. A cancelled call is stopped in the server, and undone. While a document's passages are
being stored, whoever would change it is told within seconds that it is unavailable.

Needs `protocol`, `storable`, `fusing`, `words`, `pgvector_connections`, `pgvector_documents`,
`pgvector_migrating`, `pgvector_schema` and `pgvector_search` beside it, the folder
`pgvector_migrations`, NumPy, psycopg 3.3 with its pool, pgvector, Alembic and SQLAlchemy.
"""

import logging
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Self

from . import pgvector_documents as documents
from .pgvector_connections import Connections
from .pgvector_schema import set_up
from .pgvector_search import search
from .protocol import Document, Hit, Passage, StoreUnavailableError, Vector

log = logging.getLogger(__name__)


class PgvectorStore:
    """A DocumentStore in a PostgreSQL database.

    `address`: postgresql://user:password@host:5432/database, or whatever else libpq takes for
    a URI; ValueError for another. The password is shown nowhere.
    `model`: the name of the embedding model whose vectors it holds.
    """

    def __init__(self, address: str, *, model: str) -> None:
        self._model = model
        self._connections = Connections(address, partial(set_up, address=address, model=model))

    async def __aenter__(self) -> Self:
        await self._connections.open()
        try:
            await self._connections.ready()
        except StoreUnavailableError as error:
            log.warning("%s; each call tries again", error)
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
            ),
            patient=True,
        )

    async def fail(self, document_id: str, revision: str, error: str) -> None:
        """Give up on this revision, unless it is stored already."""
        await self._connections.write(
            partial(documents.fail, document_id=document_id, revision=revision, error=error)
        )

    async def search(self, text: str, vector: Vector, *, limit: int) -> list[Hit]:
        """Find passages by the vector and by the words of the text, best first."""
        return await self._connections.read(
            partial(search, model=self._model, text=text, vector=vector, limit=limit)
        )

    async def delete(self, document_id: str) -> bool:
        """Remove the document and its passages; False if there was none."""
        return await self._connections.write(partial(documents.delete, document_id=document_id))

    async def unfinished(self) -> list[str]:
        """List what is queued or processing, the oldest first."""
        return await self._connections.read(documents.unfinished)

    async def count(self) -> int:
        """Count the passages."""
        return await self._connections.read(documents.count)
