"""The pipeline: how wide its lanes are, what is retried, and what becomes of an interrupted one."""

from contextlib import AsyncExitStack

import pytest

from app.documents import pipeline as module
from app.documents.catalogue import Catalogue, Document
from app.documents.pipeline import MAX_ATTEMPTS
from app.documents.reading import UnreadableError
from app.errors import ServiceError
from app.stores.base import StoreUnavailableError
from tests.documents.parts import (
    MODEL,
    AccountError,
    MemoryStore,
    Work,
    found,
    pipeline_over,
    submitted,
    until_ready,
)
from tests.service import eventually
from tests.stores.databases import on_each_database

pytestmark = on_each_database
TEXT = Document(content=b"zebra stripes")
NEW = Document(content=b"zebra stripes", title="New")


@pytest.fixture
def store() -> MemoryStore:
    """Provide an empty store."""
    return MemoryStore()


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make retries due at once, and polls frequent."""
    for name in ("FIRST_BACKOFF", "PAUSE"):
        monkeypatch.setattr(module, name, 0.0)
    monkeypatch.setattr(module, "POLL_INTERVAL", 0.01)


async def test_each_lane_has_its_width(catalogue: Catalogue, store: MemoryStore) -> None:
    """40 pages with 6 slots are fetched 6 at a time, and stored 2 at a time."""
    pages, work = Work(open_=False), Work(open_=False)
    async with pipeline_over(catalogue, store, fetching=pages, reading=work) as pipeline:
        ids = await submitted(catalogue, 40)
        pipeline.start()
        await eventually(lambda: pages.now == 6)
        await submitted(catalogue, 40)  # known, but the lane has time for a seventh
        pages.open.set()
        await eventually(lambda: (pages.calls, pages.now, work.now) == (40, 0, 2))
        work.open.set()
        await until_ready(catalogue, ids)
    assert (pages.peak, pages.calls, work.peak, work.calls) == (6, 40, 2, 40)


async def test_a_page_is_fetched_once_by_many_processes(
    catalogue: Catalogue, catalogue_url: str, store: MemoryStore
) -> None:
    """Four pipelines over one catalogue fetch 40 pages with 40 calls, and store each once."""
    pages = Work()
    async with AsyncExitStack() as stack:
        ids = await submitted(catalogue, 40)
        for _ in range(4):
            own = await stack.enter_async_context(Catalogue(catalogue_url, model=MODEL))
            (await stack.enter_async_context(pipeline_over(own, store, fetching=pages))).start()
        await until_ready(catalogue, ids)
    assert pages.calls == 40
    assert sorted(store.replaced) == sorted(ids)


async def test_wrong_key_pauses_the_lane(
    catalogue: Catalogue, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an error that is not the document's, its slot stays unused for a while."""
    monkeypatch.setattr(module, "PAUSE", 60.0)
    work = Work()
    work.error = AccountError("wrong key")
    async with pipeline_over(catalogue, store, reading=work) as pipeline:
        for number in range(6):
            await catalogue.submit(Document(content=b"%d" % number))
        pipeline.start()
        await eventually(lambda: work.calls == 2)
        for _ in range(4):
            assert await catalogue.claim(fetched=True)
    assert work.calls == 2


@pytest.mark.parametrize(("crashes", "state"), [(1, "ready"), (MAX_ATTEMPTS, "failed")])
async def test_killed_workers(
    catalogue: Catalogue, catalogue_url: str, store: MemoryStore, crashes: int, state: str
) -> None:
    """When the lease of a killed worker expires, the document is processed from the kept page.

    One whose worker was killed in every attempt fails instead of killing another.
    """
    (document_id,) = await submitted(catalogue, 1)
    async with Catalogue(catalogue_url, model=MODEL, lease=-1) as killed:
        page = await killed.claim(fetched=False)
        assert page is not None
        await killed.keep_page(page, "page")
        for attempt in range(crashes):
            kept = await killed.claim(fetched=True)
            assert kept is not None
            assert (kept.attempts, kept.media_type) == (attempt + 1, "text/markdown")
    pages, work = Work(), Work()
    async with pipeline_over(catalogue, store, fetching=pages, reading=work) as pipeline:
        await pipeline.process(document_id)
    assert (await found(catalogue, document_id)).state == state
    assert (pages.calls, work.calls) == (0, state == "ready")


async def test_closing_releases_what_is_in_progress(
    catalogue: Catalogue, store: MemoryStore
) -> None:
    """A document whose pipeline is closed is due at once, and the attempt does not count."""
    (document_id,) = await submitted(catalogue, 1)
    pages = Work(open_=False)
    async with pipeline_over(catalogue, store, fetching=pages) as pipeline:
        pipeline.start()
        await pages.started.wait()
    document = await found(catalogue, document_id)
    assert (document.state, document.attempts, document.lease) == ("queued", 0, None)
    assert await catalogue.claim(fetched=False)


@pytest.mark.parametrize(
    ("error", "state", "attempts", "message"),
    [
        (UnreadableError("no text"), "failed", 1, "no text"),
        (RuntimeError("secret"), "failed", MAX_ATTEMPTS, "given up after 5 attempts: RuntimeError"),
        (TimeoutError(), "failed", MAX_ATTEMPTS, "given up after 5 attempts: TimeoutError"),
        (AccountError("wrong key"), "queued", 0, None),
        (StoreUnavailableError("down", retry_after=0), "queued", 0, None),
        (ServiceError("overloaded", retry_after=60), "queued", 1, None),
    ],
)
async def test_how_a_failed_attempt_ends(
    catalogue: Catalogue,
    store: MemoryStore,
    error: Exception,
    state: str,
    attempts: int,
    message: str | None,
) -> None:
    """Unreadable documents fail at once, others after some attempts; wrong keys only delay them.

    The next attempt is not made before the time that an error names, unless it is submitted again.
    """
    work = Work()
    work.error = error
    document, _ = await catalogue.submit(TEXT)
    async with pipeline_over(catalogue, store, reading=work) as pipeline:
        for _ in range(MAX_ATTEMPTS + 2):
            await pipeline.process(document.id)
        document = await found(catalogue, document.id)
        assert (document.state, document.attempts, document.error) == (state, attempts, message)
        assert work.calls == (attempts or MAX_ATTEMPTS + 2)
        work.error = None
        await catalogue.submit(TEXT)
        assert await pipeline.process(document.id) is None
    assert (await found(catalogue, document.id)).state == "ready"


@pytest.mark.parametrize("deleted", [True, False], ids=["deleted", "replaced"])
async def test_document_that_changes_while_it_is_processed(
    catalogue_url: str, store: MemoryStore, deleted: bool
) -> None:
    """Deleted, its step ends and its passages go; a new revision is processed after the old one."""
    work = Work(open_=False)
    async with (
        Catalogue(catalogue_url, model=MODEL, lease=2.0 if deleted else 60.0) as catalogue,
        pipeline_over(catalogue, store, reading=work) as pipeline,
    ):
        document, _ = await catalogue.submit(TEXT)
        pipeline.start()
        await work.started.wait()
        if deleted:
            store.texts[document.id] = ["stored meanwhile"]
            await catalogue.delete(document.id)
            await eventually(lambda: not store.texts)
        else:
            await catalogue.submit(NEW)
            work.open.set()
            await until_ready(catalogue, [document.id])
            assert (await found(catalogue, document.id)).title == "New"
    assert work.peak == 1


async def test_lease_that_is_not_renewed(
    catalogue_url: str, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step ends with its lease, before another worker can have it; the document is repeated."""
    work = Work(open_=False)
    async with (
        Catalogue(catalogue_url, model=MODEL, lease=1.0) as catalogue,
        pipeline_over(catalogue, store, reading=work) as pipeline,
    ):
        renew, renewals = catalogue.renew, 0

        async def renew_once(document: Document) -> bool:
            nonlocal renewals
            renewals += 1
            if renewals > 1:
                raise StoreUnavailableError("away")
            return await renew(document)

        monkeypatch.setattr(catalogue, "renew", renew_once)
        document, _ = await catalogue.submit(TEXT)
        pipeline.start()
        await eventually(lambda: work.calls > 1)
        work.open.set()
        await until_ready(catalogue, [document.id])
    assert work.peak == 1


async def test_long_step_keeps_its_lease(
    catalogue_url: str, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that takes longer than a lease is renewed, and not repeated by another pipeline."""
    work = Work(open_=False)
    async with (
        Catalogue(catalogue_url, model=MODEL, lease=2.0) as catalogue,
        pipeline_over(catalogue, store, reading=work) as pipeline,
        pipeline_over(catalogue, store, reading=work) as other,
    ):
        renew, renewals = catalogue.renew, list[bool]()

        async def counted(document: Document) -> bool:
            renewals.append(await renew(document))
            return renewals[-1]

        monkeypatch.setattr(catalogue, "renew", counted)
        document, _ = await catalogue.submit(TEXT)
        pipeline.start()
        await work.started.wait()
        other.start()
        await eventually(lambda: len(renewals) > 3)  # every third of a lease
        work.open.set()
        await until_ready(catalogue, [document.id])
    assert all(renewals)
    assert work.calls == 1


async def test_without_pages(catalogue: Catalogue, store: MemoryStore) -> None:
    """A page that was queued when the service could fetch pages fails with the reason."""
    (document_id,) = await submitted(catalogue, 1)
    async with pipeline_over(catalogue, store, pages=False) as pipeline:
        await pipeline.process(document_id)
    document = await found(catalogue, document_id)
    assert (document.state, "no key for it" in str(document.error)) == ("failed", True)
