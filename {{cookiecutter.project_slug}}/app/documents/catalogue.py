"""The catalogue of documents: one SQL table, which is also the work queue.

`claim` leases a document that is due to one worker, in whichever process. The worker renews the
lease while it works; if the worker dies, the lease expires and `claim` returns the document again.
A document that waits for its next attempt is due later. Several machines need clocks that agree
to a few seconds.

Guarantees: a document is leased to one worker at a time, over all of its revisions. Changes by a
worker whose lease has expired, or whose revision was replaced, have no effect.
"""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from typing import Any, Literal, Self, TypeVar
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.stores.base import StoreUnavailableError
from app.stores.ranking import storable

from .database import DOCUMENTS, build_engine, create_tables, make_folder

LEASE = 30.0
"""Seconds for which a claimed document is leased; each renewal extends it by as much."""

TIMEOUT = 30.0
"""Seconds for a transaction."""

MARKDOWN = "text/markdown"
State = Literal["queued", "processing", "ready", "failed"]
T = TypeVar("T")
D = DOCUMENTS.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A document to add, without `content` a page that is still to be fetched.

    Its URL or path identifies it, else its content. Anything else that differs from what is known
    makes it a new revision, which replaces the earlier one.
    """

    content: bytes | None = None
    url: str | None = None
    path: str | None = None
    media_type: str | None = None
    filename: str | None = None
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def digests(self) -> tuple[str, str]:
        """Return the id and the revision; hashes the content, so keep it off the event loop."""
        content = identity = self.content or b""
        if self.url:
            identity = b"url:" + self.url.encode()
        elif self.path:
            identity = b"path:" + os.fsencode(self.path)
        details = [self.title, dict(self.metadata), self.media_type, self.filename]
        return _digest(identity), _digest(content, json.dumps(details, sort_keys=True).encode())


def _digest(*parts: bytes) -> str:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Document:
    """A row of the catalogue; `fetched` is False for a page that is still to be fetched.

    `content` is there once the document was claimed.
    """

    id: str
    revision: str
    state: State
    title: str
    url: str | None
    media_type: str | None
    filename: str | None
    error: str | None
    attempts: int
    lease: str | None
    fetched: bool
    content: bytes | None = None


ROW = [D[column.name] for column in fields(Document) if column.name != "content"]


class Catalogue:
    """The documents in the database at `url`; `model` names the embedding model of the passages.

    ValueError for a URL that cannot be used; StoreUnavailableError where the database is not
    available; CatalogueMismatchError where it holds something else.
    """

    def __init__(self, url: str, *, model: str, lease: float = LEASE) -> None:
        self.lease = lease
        self._model = model
        self._engine = build_engine(url)
        self._is_set_up = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._engine.dispose()

    async def set_up(self) -> None:
        """Create the tables if they are missing; other methods do so when needed."""
        await self._execute(sa.select(1))

    async def submit(self, submission: Submission) -> tuple[Document, bool]:
        """Queue a document unless this revision is known; return it and whether it was queued.

        A document that has failed is queued again; one that waits for a retry is due at once.
        """
        id_, revision = await asyncio.to_thread(submission.digests)
        values = {
            "id": id_, "revision": revision, "model": self._model, "state": "queued",
            "title": storable(submission.title), "url": submission.url,
            "media_type": storable(submission.media_type or ""),
            "filename": storable(submission.filename or ""),
            "metadata": dict(submission.metadata), "content": submission.content,
            "fetched": submission.content is not None, "error": None, "attempts": 0,
            "due": time.time(),
        }  # fmt: skip
        now = time.time()
        is_leased = D.lease.is_not(None)
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        upsert = dialect.insert(DOCUMENTS).values(values)
        changed = upsert.on_conflict_do_update(
            index_elements=[D.id],
            # An earlier revision that is being processed keeps its lease: see `postpone`.
            set_={**values, "due": sa.case((is_leased, D.due), else_=now)},
            where=(D.revision != revision) | (D.state == "failed"),
        )
        waits = (D.state == "queued") & ~is_leased
        known = sa.update(DOCUMENTS).where(D.id == id_)
        known = known.values(due=sa.case((waits, now), else_=D.due))

        async def work(connection: AsyncConnection) -> tuple[Document, bool]:
            if row := (await connection.execute(changed.returning(*ROW))).first():
                return Document(*row), True
            row = (await connection.execute(known.returning(*ROW))).one()
            return Document(*row), False

        return await self._transact(work)

    async def find(self, document_id: str) -> Document | None:
        """Return a document; None if there is none."""
        return await self._document(sa.select(*ROW).where(D.id == storable(document_id)))

    async def delete(self, document_id: str) -> None:
        """Delete a document, if there is one."""
        await self._execute(sa.delete(DOCUMENTS).where(D.id == document_id))

    async def claim(
        self, *, fetched: bool, document_id: str | None = None, overdue: float = 0.0
    ) -> Document | None:
        """Lease the document that has been due for longest, and count the attempt.

        `fetched` selects documents whose content is here, else pages to be fetched;
        `document_id` one document; `overdue` documents that have been due for so many seconds.
        """
        unfinished = D.state.in_(("queued", "processing"))
        candidates = unfinished & (D.fetched == fetched) & (D.due <= time.time() - overdue)
        if document_id is not None:
            candidates &= D.id == document_id
        first = sa.select(D.id).where(candidates).order_by(D.due).limit(1)
        claim = (
            sa.update(DOCUMENTS)
            .where(D.id == first.with_for_update(skip_locked=True).scalar_subquery())
            .values(state="processing", attempts=D.attempts + 1)
            .values(lease=uuid4().hex, due=time.time() + self.lease)
        )
        return await self._document(claim.returning(*ROW, D.content))

    async def renew(self, document: Document) -> bool:
        """Extend the lease; False if it is lost, or the document was replaced or deleted."""
        return await self._update(document, due=time.time() + self.lease)

    async def keep_page(self, document: Document, page: str) -> bool:
        """Store a page that was fetched, so that no later attempt fetches it again."""
        content = {"content": page.encode("utf-8", "replace"), "media_type": MARKDOWN}
        queued = {"fetched": True, "state": "queued", "attempts": 0, "due": time.time()}
        return await self._update(document, lease=None, **content, **queued)

    async def ready(self, document: Document, title: str) -> bool:
        """End the lease: the passages are stored."""
        return await self._update(
            document, lease=None, state="ready", title=storable(title), content=None
        )

    async def fail(self, document: Document, error: str) -> bool:
        """End the lease: there will be no further attempt."""
        return await self._update(
            document, lease=None, state="failed", error=storable(error), content=None
        )

    async def postpone(self, document: Document, seconds: float, *, counted: bool = True) -> None:
        """End the lease: the next attempt, or a newer revision, is due in so many seconds.

        `counted=False` takes back the attempt that `claim` counted.
        """
        attempts = D.attempts if counted else D.attempts - 1
        values = {"state": "queued", "due": time.time() + seconds, "attempts": attempts}
        await self._execute(
            sa.update(DOCUMENTS).where(_leased(document)).values(lease=None, **values)
        )

    async def _update(self, document: Document, **values: object) -> bool:
        held = _leased(document) & (D.revision == document.revision)
        return (await self._execute(sa.update(DOCUMENTS).where(held).values(values))).rowcount > 0

    async def _document(self, query: sa.Executable) -> Document | None:
        row: Sequence[Any] | None = (await self._execute(query)).first()
        return Document(*row) if row else None

    async def _execute(self, statement: sa.Executable) -> sa.CursorResult[Any]:
        return await self._transact(lambda connection: connection.execute(statement))

    async def _transact(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run a transaction to its end, also if it is cancelled: the driver leaks connections."""
        transaction = asyncio.ensure_future(self._transaction(work))
        try:
            return await asyncio.shield(transaction)
        except asyncio.CancelledError:
            await asyncio.wait([transaction])
            raise

    async def _transaction(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        try:
            if not self._is_set_up:
                await asyncio.to_thread(make_folder, self._engine)
            async with asyncio.timeout(TIMEOUT), self._engine.begin() as connection:
                if not self._is_set_up:
                    await connection.run_sync(create_tables, self._model)
                result = await work(connection)
            self._is_set_up = True
        except (DBAPIError, sa.exc.TimeoutError, OSError) as error:
            cause = getattr(error, "orig", None) or error
            raise StoreUnavailableError.from_error("the catalogue", cause) from error
        return result


def _leased(document: Document) -> sa.ColumnElement[bool]:
    return (D.id == document.id) & (D.lease == document.lease)
