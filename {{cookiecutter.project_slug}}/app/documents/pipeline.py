"""Documents on their way into the store: two lanes over the catalogue, each with its own width.

The fetch lane fetches pages and keeps them in the catalogue; the work lane reads, splits, embeds
and stores. Any number of processes may run pipelines over one catalogue. After a crash a document
is processed again when its lease expires; a page that was fetched is not fetched again.

Guarantees: at most `width` documents of a lane at once in this process; a failed attempt is
repeated with exponential backoff, MAX_ATTEMPTS in all; a document whose lease is lost is dropped
at once, and the passages of one that was deleted meanwhile are deleted.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self

from app.embeddings.base import Embedder
from app.errors import InvalidRequestError
from app.stores.base import Passage, PassageStore, Source, StoreUnavailableError

from .catalogue import Catalogue, Document

POLL_INTERVAL = 2.0
"""Seconds between two looks for documents that other processes added, or that are due again."""
MAX_ATTEMPTS = 5
FIRST_BACKOFF = 5.0
LONGEST_BACKOFF = 300.0
PAUSE = 30.0
"""Seconds for which a slot stays unused after an error that is not the document's."""
ATTEMPT_TIMEOUT = 900.0
TRUSTED = 0.8
"""The part of a lease after which a step ends if there was no renewal."""

Read = Callable[..., Awaitable[tuple[str, list[str]]]]
"""Returns the title and the passages of a document; see `Reader.read`."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pages:
    """How web pages become documents.

    `fetch` returns a page as Markdown, and may run `width` times at once in this process; `check`
    returns a URL that may be fetched. Both raise a ServiceError that says why not.
    """

    fetch: Callable[[str], Awaitable[str]]
    width: int
    check: Callable[[str], str]


class PagesOffError(InvalidRequestError):
    """This process does not fetch pages."""

    type = "pages_off"
    permanent = True


def _refuse(_: str) -> NoReturn:
    raise PagesOffError("there is no client for web pages, or no key for it: send text or a file")


NO_PAGES = Pages(_refuse, 1, _refuse)
"""For a process that does not fetch pages."""


class LeaseLostError(Exception):
    """The document was deleted or replaced, or another worker has its lease."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One kind of step, for as many documents at once as there are slots."""

    step: Callable[[Document], Coroutine[Any, Any, None]]
    fetched: bool
    slots: asyncio.Semaphore
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Pipeline:
    """Processes documents while it is open: those given to `process`, and all once it is started.

    An error whose `permanent` is true fails a document at once. Errors of the kinds in
    `retry_forever` (a wrong key, say), or of a store that is not available, only postpone it.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        store: PassageStore,
        *,
        read: Read,
        embedder: Embedder,
        pages: Pages = NO_PAGES,
        width: int,
        retry_forever: tuple[type[Exception], ...] = (),
    ) -> None:
        self._catalogue = catalogue
        self._store = store
        self._read = read
        self._embedder = embedder
        self._pages = pages
        self._retry_forever: tuple[type[Exception], ...] = (StoreUnavailableError, *retry_forever)
        fetching = Lane(self._fetch_page, fetched=False, slots=asyncio.Semaphore(pages.width))
        working = Lane(self._store_passages, fetched=True, slots=asyncio.Semaphore(width))
        self._lanes = (fetching, working)
        self.width = pages.width + width
        self._group = asyncio.TaskGroup()
        self._tasks = set[asyncio.Task[object]]()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(None, None, None)

    def start(self, *, overdue: float = 0.0) -> None:
        """Process every document that is due, or has been for `overdue` seconds."""
        for lane in self._lanes:
            self._run(self._dispatch(lane, overdue))

    @asynccontextmanager
    async def started(self) -> AsyncIterator[Callable[[str], None]]:
        """Start, and yield what announces a document that was queued."""
        self.start()
        yield self.wake

    def wake(self, _document_id: str = "") -> None:
        """Look for due documents now."""
        for lane in self._lanes:
            lane.wake.set()

    async def process(self, document_id: str) -> Exception | None:
        """Process one document as far as it is due; return the error of a failed attempt."""
        while document := await self._catalogue.find(document_id):
            lane = self._lanes[document.fetched]
            async with lane.slots:
                claimed = await self._catalogue.claim(fetched=lane.fetched, document_id=document_id)
                if claimed is None:
                    break
                if error := await self._attempt(lane, claimed):
                    return error
        return None

    def _run(self, work: Coroutine[Any, Any, object]) -> "asyncio.Task[object]":
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _dispatch(self, lane: Lane, overdue: float) -> None:
        while True:
            await lane.slots.acquire()
            lane.wake.clear()
            document = None
            try:
                document = await self._catalogue.claim(fetched=lane.fetched, overdue=overdue)
            except Exception:
                log.exception("documents wait: the catalogue is not available")
            if document is not None:
                self._run(self._work(lane, document))
                continue
            lane.slots.release()
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_INTERVAL):
                    await lane.wake.wait()

    async def _work(self, lane: Lane, document: Document) -> None:
        try:
            if isinstance(await self._attempt(lane, document), self._retry_forever):
                await asyncio.sleep(PAUSE)
        finally:
            lane.slots.release()

    async def _attempt(self, lane: Lane, document: Document) -> Exception | None:
        """Run one step while the lease is renewed; record how it ended, and return its error."""
        lease = asyncio.timeout(TRUSTED * self._catalogue.lease)
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT), lease:
                renewal = self._run(self._renew(document, lease))
                try:
                    if document.attempts > MAX_ATTEMPTS:
                        raise InterruptedError("its process ended in each attempt")
                    await lane.step(document)
                finally:
                    renewal.cancel()
        except asyncio.CancelledError:
            with suppress(Exception):
                await self._catalogue.postpone(document, 0, counted=False)
            raise
        except Exception as error:  # noqa: BLE001 -- a step may fail in any way
            lost = lease.expired() or isinstance(error, LeaseLostError)
            with suppress(Exception):  # or else the lease expires
                await (self._drop(document) if lost else self._retry(document, error))
            return None if lost else error
        return None

    async def _renew(self, document: Document, lease: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._catalogue.lease / 3)
            began = loop.time()
            try:
                held = await self._catalogue.renew(document)
                lease.reschedule(began + (TRUSTED * self._catalogue.lease if held else 0.0))
            except Exception as error:  # noqa: BLE001 -- the timeout ends the step in time
                log.warning("document %s: lease not renewed: %s", document.id, error)

    async def _retry(self, document: Document, error: Exception) -> None:
        """End an attempt that failed."""
        id_, attempt, name = document.id, document.attempts, type(error).__name__
        log.warning("document %s: attempt %d: %s: %s", id_, attempt, name, error)
        wait: float = getattr(error, "retry_after", None) or 0.0
        if getattr(error, "permanent", False):
            await self._catalogue.fail(document, str(error))
        elif isinstance(error, self._retry_forever):
            await self._catalogue.postpone(document, max(wait, PAUSE), counted=False)
        elif attempt < MAX_ATTEMPTS:
            backoff = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** (attempt - 1))
            jitter = random.uniform(0.5, 1.0)  # noqa: S311 -- spreads the load
            await self._catalogue.postpone(document, max(wait, backoff * jitter))
        else:
            reason = f"given up after {MAX_ATTEMPTS} attempts: {name}"
            await self._catalogue.fail(document, reason)

    async def _drop(self, document: Document) -> None:
        """End the work on a document that was replaced or deleted."""
        if await self._catalogue.find(document.id) is None:
            await self._store.delete(document.id)
        await self._catalogue.postpone(document, 0)

    async def _fetch_page(self, document: Document) -> None:
        page = await self._pages.fetch(document.url or "")
        if not await self._catalogue.keep_page(document, page):
            raise LeaseLostError
        self.wake()

    async def _store_passages(self, document: Document) -> None:
        kind = {"media_type": document.media_type, "filename": document.filename}
        title, texts = await self._read(document.content or b"", **kind, title=document.title)
        vectors = await self._embedder.embed(texts)
        passages = [Passage(text, row) for text, row in zip(texts, vectors, strict=True)]
        await self._store.replace(Source(document.id, title, document.url), passages)
        if not await self._catalogue.ready(document, title):
            raise LeaseLostError
