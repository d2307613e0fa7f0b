"""The catalogue of documents: one SQL table, which is also the work queue.

`claim` leases a document that is due to one worker, in whichever process. The worker renews the
lease while it works; if the worker dies, the lease expires and `claim` returns the document again.
Several machines need clocks that agree to a few seconds.

Guarantees: a document is leased to one worker at a time, over all of its revisions. Changes by a
worker whose lease has expired, or whose revision was replaced, have no effect.

Needs SQLAlchemy with an async driver: aiosqlite (SQLite, one machine) or psycopg (PostgreSQL).
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self, TypeVar
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column, undefer

from app.errors import ServiceError
from app.stores.base import StoreUnavailableError
from app.stores.ranking import storable

LEASE = 30.0
"""Seconds for which a claimed document is leased; each renewal extends it by as much."""
TIMEOUT = 30.0
"""Seconds for a transaction."""
MARKDOWN = "text/markdown"
DRIVERS: dict[str, tuple[str, dict[str, Any]]] = {
    # Seconds for which a writer waits for others; without transactions of the driver's own.
    "sqlite": ("sqlite+aiosqlite", {"timeout": 10, "isolation_level": None}),
    "postgresql": ("postgresql+psycopg", {"connect_timeout": 3}),
}
"""The SQLAlchemy driver of each database, and the arguments of its connections."""
T = TypeVar("T")


class Base(MappedAsDataclass, DeclarativeBase):
    """The catalogue's tables."""


class Document(Base, kw_only=True):
    """A document to add, or as it stands in the catalogue.

    `state` is queued, processing, ready or failed. `fetched` is false for a page that is still to
    be fetched. `content` is loaded by `claim` only, and removed once the document is ready.
    """

    __tablename__ = "documents"
    __table_args__ = (sa.Index("documents_by_due", "state", "due"),)

    id: Mapped[str] = mapped_column(primary_key=True, default="")
    revision: Mapped[str] = mapped_column(default="")
    model: Mapped[str] = mapped_column(default="")
    title: Mapped[str] = mapped_column(default="")
    url: Mapped[str | None] = mapped_column(default=None)
    media_type: Mapped[str] = mapped_column(default="")
    filename: Mapped[str] = mapped_column(default="")
    details: Mapped[dict[str, Any]] = mapped_column("metadata", sa.JSON, default_factory=dict)
    content: Mapped[bytes | None] = mapped_column(
        default=None, deferred=True, repr=False, compare=False
    )
    fetched: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str] = mapped_column(default="queued")
    error: Mapped[str | None] = mapped_column(default=None)
    attempts: Mapped[int] = mapped_column(default=0)
    due: Mapped[float] = mapped_column(sa.Double, default_factory=time.time)
    lease: Mapped[str | None] = mapped_column(default=None)


class CatalogueMismatchError(ServiceError):
    """The database has an older schema, or documents embedded with another model."""

    type = "store_error"
    public_message = "the document catalogue is not available"


class Catalogue:
    """The documents in the database at `url`; `model` names the embedding model of the passages.

    ValueError for a URL that cannot be used; StoreUnavailableError where the database is not
    available; CatalogueMismatchError where it holds something else.
    """

    def __init__(self, url: str, *, model: str, lease: float = LEASE) -> None:
        self.lease = lease
        self._model = model
        self._engine = _build_engine(url)
        self._is_set_up = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._engine.dispose()

    async def set_up(self) -> None:
        """Create the table if it is missing; other methods do so when needed."""
        await self.find("")

    async def submit(self, document: Document) -> tuple[Document, bool]:
        """Queue a document unless this revision is known; return it and whether it was queued.

        Its `id`, any name, identifies it, else its URL, else its content; the id that is returned
        is a hash. Anything else that differs makes it a new revision, which replaces the earlier
        one. A document that has failed is queued again; one that waits for a retry is due at once.
        """
        new = await asyncio.to_thread(_identified, document)
        new.model, new.due = self._model, time.time()

        async def work(session: AsyncSession) -> tuple[Document, bool]:
            if self._engine.dialect.name == "postgresql":  # or both of two insert the same document
                await session.execute(sa.select(_lock(new.id)))
            known = await session.get(Document, new.id, with_for_update=True)
            if known and known.revision == new.revision and known.state != "failed":
                if known.state == "queued" and not known.lease:
                    known.due = new.due
                return known, False
            if known and known.lease:  # the worker of the earlier revision ends it: see `postpone`
                new.lease, new.due = known.lease, known.due
            return await session.merge(new), True

        return await self._transact(work)

    async def find(self, document_id: str) -> Document | None:
        """Return a document; None if there is none."""
        query = sa.select(Document).where(Document.id == storable(document_id))
        return await self._transact(lambda session: session.scalar(query))

    async def delete(self, document_id: str) -> None:
        """Delete a document, if there is one."""
        await self._execute(sa.delete(Document).where(Document.id == document_id))

    async def claim(
        self, *, fetched: bool, document_id: str | None = None, overdue: float = 0.0
    ) -> Document | None:
        """Lease the document that has been due for longest, and count the attempt.

        `fetched` selects documents whose content is here, else pages to be fetched;
        `document_id` one document; `overdue` documents that have been due for so many seconds.
        """
        candidates = Document.state.in_(("queued", "processing")) & (Document.fetched == fetched)
        candidates &= Document.due <= time.time() - overdue
        if document_id is not None:
            candidates &= Document.id == document_id
        first = sa.select(Document.id).where(candidates).order_by(Document.due).limit(1)
        lease, until = uuid4().hex, time.time() + self.lease
        claim = (
            sa.update(Document)
            .where(Document.id == first.with_for_update(skip_locked=True).scalar_subquery())
            .values(state="processing", attempts=Document.attempts + 1, lease=lease, due=until)
            .returning(Document)
            .options(undefer(Document.content))
        )
        try:
            return await self._transact(lambda session: session.scalar(claim))
        except asyncio.CancelledError:  # the caller will not work on it
            with suppress(StoreUnavailableError):
                await self._release(Document.lease == lease, 0, counted=False)
            raise

    async def renew(self, document: Document) -> bool:
        """Extend the lease; False if it is lost, or the document was replaced or deleted."""
        return await self._update(document, due=time.time() + self.lease)

    async def keep_page(self, document: Document, page: str) -> bool:
        """Store a page that was fetched, so that no later attempt fetches it again."""
        kept = {"content": page.encode("utf-8", "replace"), "media_type": MARKDOWN, "fetched": True}
        due = time.time()
        return await self._update(document, lease=None, state="queued", attempts=0, due=due, **kept)

    async def ready(self, document: Document, title: str) -> bool:
        """End the lease: the passages are stored."""
        title = storable(title)
        return await self._update(document, lease=None, state="ready", title=title, content=None)

    async def fail(self, document: Document, error: str) -> bool:
        """End the lease: there will be no further attempt."""
        error = storable(error)
        return await self._update(document, lease=None, state="failed", error=error, content=None)

    async def postpone(self, document: Document, seconds: float, *, counted: bool = True) -> None:
        """End the lease: the next attempt, or a newer revision, is due in so many seconds.

        `counted=False` takes back the attempt that `claim` counted.
        """
        await self._release(_leased(document), seconds, counted=counted)

    async def _release(
        self, leased: sa.ColumnElement[bool], seconds: float, *, counted: bool
    ) -> None:
        attempts = Document.attempts if counted else Document.attempts - 1
        query = sa.update(Document).where(leased).values(attempts=attempts)
        await self._execute(query.values(lease=None, state="queued", due=time.time() + seconds))

    async def _update(self, document: Document, **values: object) -> bool:
        held = _leased(document) & (Document.revision == document.revision)
        return await self._execute(sa.update(Document).where(held).values(values))

    async def _execute(self, statement: sa.Update | sa.Delete) -> bool:
        """Return whether there was a row to change."""
        changed = statement.returning(Document.id)
        return await self._transact(lambda session: session.scalar(changed)) is not None

    async def _transact(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """Run a transaction to its end, also if it is cancelled: the driver leaks connections."""
        transaction = asyncio.ensure_future(self._transaction(work))
        try:
            return await asyncio.shield(transaction)
        except asyncio.CancelledError:
            await asyncio.wait([transaction])
            raise

    async def _transaction(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        path = self._engine.url.database
        try:
            if not self._is_set_up and self._engine.dialect.name == "sqlite" and path:
                folder = Path(path).parent
                await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
            async with (
                asyncio.timeout(TIMEOUT),
                AsyncSession(self._engine, expire_on_commit=False) as session,
                session.begin(),
            ):
                if not self._is_set_up:
                    connection = await session.connection()
                    await connection.run_sync(_create_table, self._model)
                result = await work(session)
            self._is_set_up = True
        except (DBAPIError, sa.exc.TimeoutError, OSError) as error:
            cause = getattr(error, "orig", None) or error
            raise StoreUnavailableError.from_error("the catalogue", cause) from error
        return result


def _leased(document: Document) -> sa.ColumnElement[bool]:
    return (Document.id == document.id) & (Document.lease == document.lease)


def _identified(document: Document) -> Document:
    """Return a copy with id and revision; hashes the content, so keep it off the event loop."""
    content = document.content or b""
    name = document.id or (document.url and f"url:{document.url}") or ""
    described = [document.title, document.details, document.media_type, document.filename]
    return replace(
        document,
        id=_digest(name.encode("utf-8", "surrogateescape") or content),
        revision=_digest(content, json.dumps(described, sort_keys=True).encode()),
        title=storable(document.title),
        media_type=storable(document.media_type),
        filename=storable(document.filename),
        fetched=document.content is not None,
    )


def _lock(name: str) -> sa.Function[None]:
    """Return PostgreSQL's function that waits for the other transactions that called it."""
    return sa.func.pg_advisory_xact_lock(sa.func.hashtext(name))


def _digest(*parts: bytes) -> str:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _build_engine(url: str) -> AsyncEngine:
    """Return an engine for sqlite:///file.db or postgresql://…; ValueError if it cannot be used."""
    try:
        parsed = sa.make_url(url)
        driver, arguments = DRIVERS[parsed.get_backend_name()]
        address = parsed.set(drivername=driver)
        engine = create_async_engine(address, pool_pre_ping=True, connect_args=arguments)
    except (ArgumentError, KeyError):
        raise ValueError("should be like sqlite:///file.db or postgresql://host/name") from None
    except ModuleNotFoundError as error:
        raise ValueError(f"needs the package {error.name}, which is not installed") from None
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine.sync_engine, "connect", _use_write_ahead_log)
        sa.event.listen(engine.sync_engine, "begin", _begin_immediate)
    return engine


def _use_write_ahead_log(connection: Any, _: object) -> None:  # noqa: ANN401 -- an adapter
    connection.execute("PRAGMA journal_mode = WAL").close()


def _begin_immediate(connection: sa.Connection) -> None:
    """Take the write lock first: SQLite fails a read that becomes a write after another's write."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _create_table(connection: sa.Connection, model: str) -> None:
    """Create the table if it is missing, for documents embedded with `model`."""
    if connection.dialect.name == "postgresql":  # one process at a time creates it
        connection.execute(sa.select(_lock("documents")))
    Base.metadata.create_all(connection)
    columns = {column["name"] for column in sa.inspect(connection).get_columns("documents")}
    if columns != set(Base.metadata.tables["documents"].columns.keys()):
        raise CatalogueMismatchError(
            "the database has documents of an older version: use an empty one, and load them again"
        )
    query = sa.select(Document.model).where(Document.model != model).limit(1)
    if other := connection.scalar(query):
        raise CatalogueMismatchError(
            f"the documents were embedded with {other!r}, EMBEDDING_MODEL is {model!r}: set it "
            "back, or use an empty database and load the documents again"
        )
