"""A store in Qdrant, on one server or in a cluster, shared by any number of processes.

Search is by vectors alone: words count for nothing. Qdrant has no transactions; what SQLite's give
is made here of single updates, each under a condition (see `qdrant_records`), and of versions of
which a document's record names one (see `qdrant_passages`). So, between any number of processes:

- a search finds a document's old passages or its new ones, and none of a deleted document;
- work for a revision that is no longer the document's is dropped; every attempt is counted;
- what dies half-way leaves remainders that are never found: the next opening removes those of
  stored, given up and deleted documents, the next `upsert`, `fail` or `delete` those of the others.

Weaker than a database with transactions:

- a search asks again just after a change, and where half-written versions are nearer than what it
  finds; after 20 rounds it gives up (StoreUnavailableError); one that takes longer than a whole
  replacement may miss the document;
- the content of a process that dies while it submits a document stays, found by nobody; so do
  passages of one that still writes when its document is stored by another, given up or deleted,
  and dies (or loses the server) before it has removed them; so do the half-written ones of a
  model that is no longer the store's;
- two models that fill an empty store in the same moment are not both refused: the passages of one
  are not found, nor are they ever compared with the other's;
- `unfinished` goes by the clocks of those who submitted;
- in a cluster all of this holds for collections of one replica; of more, a read may be served by
  one that lags behind.

Needs `protocol`, `storable`, `qdrant_contents`, `qdrant_documents`, `qdrant_opening`,
`qdrant_passages`, `qdrant_publishing`, `qdrant_records`, `qdrant_requests` and `qdrant_setup`
beside it, NumPy, qdrant-client, and a Qdrant of 1.17 or later: earlier ones know no insert that
never overwrites.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from qdrant_client import AsyncQdrantClient, models

from . import qdrant_documents as documents
from .protocol import Document, Hit, Passage, StoreUnavailableError, Vector
from .qdrant_contents import Contents
from .qdrant_documents import document_of, is_at, point_of
from .qdrant_opening import Opening
from .qdrant_passages import Passages
from .qdrant_publishing import Publisher
from .qdrant_records import Records, having
from .qdrant_requests import RETRY_AFTER, TIMEOUT, Requests, server_at
from .qdrant_setup import Setup
from .storable import storable

NAME = "app"
SETUP_TIMEOUT = 10.0
TRIES = 20


class QdrantStore:
    """A DocumentStore in Qdrant, in collections that are made if need be.

    `address`: http://host:port or https://KEY@host:port, else ValueError; see `qdrant_requests`.
    `model`: the name of the embedding model whose vectors it holds.
    `name`: what the names of its collections begin with.
    `timeout`: seconds for each request; `setup_timeout`: for all that set the store up.
    `client`: makes the client instead, as for the client's own local engine; the store closes it.

    Opening a store whose server cannot be reached succeeds: each later call tries to set it up
    first, and raises StoreUnavailableError while that fails.
    """

    def __init__(
        self,
        address: str,
        *,
        model: str,
        name: str = NAME,
        timeout: float = TIMEOUT,
        setup_timeout: float = SETUP_TIMEOUT,
        client: Callable[[], AsyncQdrantClient] | None = None,
    ) -> None:
        server = server_at(address)
        self._ask = Requests(server.url, client or partial(server.client, timeout), timeout=timeout)
        self._records = Records(self._ask, f"{name}-documents")
        self._contents = Contents(self._ask, f"{name}-contents")
        self._passages = Passages(self._ask, self._current)
        self._setup = Setup(self._ask, self._records, name=name, model=model)
        self._publisher = Publisher(self._records, self._contents, self._passages, self._setup)
        self._opening = Opening(self._set_up, timeout=setup_timeout)

    async def __aenter__(self) -> Self:
        await self._ask.open()
        try:
            await self._opening.attempt()
        except BaseException:
            await self._ask.close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._ask.close()

    async def submit(self, document: Document, content: bytes) -> None:
        """Queue a document in place of an earlier revision, whose passages stay for now."""
        await self._opening.done()
        name, chunks = await self._contents.write(content)
        point = point_of(storable(document.id))
        record = await self._records.edit(point, documents.submitted(document, name, chunks))
        await self._publisher.tidy(point, record)

    async def document(self, document_id: str) -> Document | None:
        """Return a document; None if there is no such one."""
        await self._opening.done()
        point = point_of(storable(document_id))
        return document_of((await self._records.read(point)).get(point))

    async def begin(self, document_id: str) -> tuple[Document, bytes] | None:
        """Return a document to work on and its content; None if there is nothing to do."""
        await self._opening.done()
        for _ in range(TRIES):
            record = await self._records.edit(point_of(storable(document_id)), documents.begun)
            document = document_of(record)
            if record is None or document is None:
                return None
            content = await self._contents.read(record["content"], record["chunks"])
            if content is not None:  # else it is another's by now
                return document, content
        raise _overtaken(document_id)

    async def upsert(
        self, document_id: str, revision: str, passages: Sequence[Passage], *, title: str = ""
    ) -> bool:
        """Replace the document's passages; False if the revision is no longer its own."""
        await self._opening.done()
        revision, title = storable(revision), storable(title)
        point = point_of(storable(document_id))
        for attempt in range(TRIES):
            record = (await self._records.read(point)).get(point)
            if not is_at(record, revision):
                return False
            if attempt and record["state"] == "ready":  # by whoever was faster with the same
                return True
            if await self._publisher.replace(point, revision, passages, title):
                return True
        raise _overtaken(document_id)

    async def fail(self, document_id: str, revision: str, error: str) -> None:
        """Give up on this revision, unless it is stored already."""
        await self._opening.done()
        point = point_of(storable(document_id))
        change = documents.failed(storable(revision), storable(error))
        await self._publisher.tidy(point, await self._records.edit(point, change))

    async def search(self, text: str, vector: Vector, *, limit: int) -> list[Hit]:  # noqa: ARG002
        """Find passages by the vector, best first."""
        await self._opening.done()
        space = await self._setup.space_of(len(vector))
        if space is None or limit < 1:
            return []
        return await self._passages.search(space, vector, limit)

    async def delete(self, document_id: str) -> bool:
        """Remove the document and its passages; False if there was none."""
        await self._opening.done()
        point = point_of(storable(document_id))
        record = await self._records.edit(point, documents.deleted)
        await self._publisher.tidy(point, record)
        return record is not None

    async def unfinished(self) -> list[str]:
        """List what is queued or processing, the oldest first."""
        await self._opening.done()
        where = models.Filter(must=[having("state", documents.UNFINISHED)])
        records = (await self._records.all(where, ["id", "submitted"])).values()
        return [record["id"] for record in sorted(records, key=lambda one: one["submitted"])]

    async def count(self) -> int:
        """Count the passages that can be found."""
        await self._opening.done()
        return await self._setup.count(await self._setup.label())

    async def _set_up(self) -> None:
        await self._setup.run()
        await self._publisher.tidy_all()

    async def _current(self, document_ids: Iterable[str]) -> dict[str, str | None]:
        points = [point_of(id_) for id_ in document_ids]
        records = await self._records.read(*points, fields=["id", "current"])
        return {record["id"]: record["current"] for record in records.values()}


def _overtaken(document_id: str) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"The document {document_id!r} was changed by others {TRIES} times in a row",
        retry_after=RETRY_AFTER,
    )
