"""The catalogue: what a lease guarantees."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from app.documents.catalogue import Catalogue, CatalogueMismatchError, Document
from tests.documents.parts import MODEL, submitted
from tests.stores.databases import on_each_database

pytestmark = on_each_database
TEXT = Document(content=b"A zebra has stripes.")
NEW = Document(content=b"A zebra has stripes.", title="New")


@pytest.fixture
async def late(catalogue_url: str) -> AsyncIterator[Catalogue]:
    """Provide the same catalogue to a process whose leases expire at once."""
    async with Catalogue(catalogue_url, model=MODEL, lease=-1) as catalogue:
        yield catalogue


async def claim(catalogue: Catalogue, *, fetched: bool = True) -> Document:
    """Claim a document that is due."""
    document = await catalogue.claim(fetched=fetched)
    assert document is not None
    return document


async def test_one_worker_has_a_document(catalogue: Catalogue, catalogue_url: str) -> None:
    """Many workers that claim at the same time get a document each, and no document twice.

    A document that many submit at the same time is queued once.
    """
    async with Catalogue(catalogue_url, model=MODEL) as other:
        workers = [catalogue, other] * 8
        await asyncio.gather(catalogue.set_up(), other.set_up())
        answers = await asyncio.gather(*(worker.submit(TEXT) for worker in workers))
        assert [is_new for _, is_new in answers].count(True) == 1
        ids = await submitted(catalogue, 8)
        claims = await asyncio.gather(*(worker.claim(fetched=False) for worker in workers))
    assert sorted(document.id for document in claims if document) == sorted(ids)


async def test_cancelled_claim_leases_nothing(catalogue: Catalogue) -> None:
    """A document that was claimed for a caller who is cancelled meanwhile is due at once."""
    await catalogue.submit(TEXT)
    for _ in range(5):
        task = asyncio.create_task(catalogue.claim(fetched=True))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert (await claim(catalogue)).attempts == 1


async def test_submitting_ends_no_lease(catalogue: Catalogue, catalogue_url: str) -> None:
    """A document that is submitted in the moment of its claim is not claimed once more."""
    async with Catalogue(catalogue_url, model=MODEL) as other:
        await asyncio.gather(catalogue.set_up(), other.set_up())
        for number in range(40):
            document, _ = await catalogue.submit(Document(content=b"%d" % number))
            again = Document(content=b"%d" % number, title="New" if number % 2 else "")
            claimed, _ = await asyncio.gather(other.claim(fetched=True), catalogue.submit(again))
            assert not (claimed and await catalogue.claim(fetched=True))
            await catalogue.delete(document.id)


@pytest.mark.parametrize(
    "change",
    [
        lambda catalogue, document: catalogue.renew(document),
        lambda catalogue, document: catalogue.ready(document, "title"),
        lambda catalogue, document: catalogue.fail(document, "error"),
        lambda catalogue, document: catalogue.keep_page(document, "page"),
    ],
    ids=["renew", "ready", "fail", "keep_page"],
)
@pytest.mark.parametrize("how", ["expired", "replaced", "deleted"])
async def test_without_its_lease_a_worker_changes_nothing(
    catalogue: Catalogue,
    late: Catalogue,
    change: Callable[[Catalogue, Document], Awaitable[object]],
    how: str,
) -> None:
    """After another worker's claim, a new revision or a deletion, changes have no effect."""
    await catalogue.submit(TEXT)
    document = held = await claim(late)
    if how == "expired":
        held = await claim(catalogue)
    elif how == "replaced":
        await catalogue.submit(NEW)
    else:
        await catalogue.delete(document.id)
    before = await catalogue.find(document.id)
    assert not await change(catalogue, document)
    assert await catalogue.find(document.id) == before
    if how == "expired":
        await late.postpone(document, 0)
        assert await catalogue.renew(held)


async def test_same_revision_is_known(catalogue: Catalogue) -> None:
    """The same content is queued once; with another title, or after a failure, it is again."""
    first, is_new = await catalogue.submit(TEXT)
    assert (first.state, is_new) == ("queued", True)
    again, is_new = await catalogue.submit(TEXT)
    assert (again.id, again.state, is_new) == (first.id, "queued", False)
    assert await catalogue.ready(await claim(catalogue), "Zebras")
    known, is_new = await catalogue.submit(TEXT)
    assert (known.state, known.title, is_new) == ("ready", "Zebras", False)
    changed, is_new = await catalogue.submit(NEW)
    assert (changed.id, changed.state, is_new) == (first.id, "queued", True)
    assert await catalogue.fail(await claim(catalogue), "broken")
    again, is_new = await catalogue.submit(NEW)
    assert (again.state, again.error, again.attempts, is_new) == ("queued", None, 0, True)


async def test_new_revision_waits_for_the_old_worker(catalogue: Catalogue) -> None:
    """While an old revision is being processed the new one is not claimed; then it is due."""
    await catalogue.submit(TEXT)
    old = await claim(catalogue)
    await catalogue.submit(NEW)
    assert await catalogue.claim(fetched=True) is None
    await catalogue.postpone(old, 0)
    assert (await claim(catalogue)).title == "New"


async def test_when_a_document_is_due(catalogue: Catalogue) -> None:
    """`overdue` claims what has been due for long; a retry is due later, at once if submitted."""
    await catalogue.submit(TEXT)
    assert await catalogue.claim(fetched=True, overdue=60) is None
    await catalogue.postpone(await claim(catalogue), 60)
    assert await catalogue.claim(fetched=True) is None
    document, is_new = await catalogue.submit(TEXT)
    assert (document.state, document.attempts, is_new) == ("queued", 1, False)
    await claim(catalogue)


@pytest.mark.parametrize("text", ["NUL \0", "half of a pair \ud83d"])
async def test_text_that_databases_refuse(catalogue: Catalogue, text: str) -> None:
    """Titles, file names and errors with NUL or lone surrogates are stored without them."""
    submission = Document(content=b"a", filename=text, title=text, details={"note": "\0"})
    document, _ = await catalogue.submit(submission)
    assert document.title.startswith(text[:3])
    assert await catalogue.fail(await claim(catalogue), text)
    assert await catalogue.find(text) is None


async def test_another_model_is_refused(catalogue: Catalogue, catalogue_url: str) -> None:
    """Documents of two embedding models are not mixed; an empty catalogue takes either."""
    await catalogue.set_up()
    async with Catalogue(catalogue_url, model="other") as other:
        document, _ = await other.submit(TEXT)
    async with Catalogue(catalogue_url, model=MODEL) as third:
        with pytest.raises(CatalogueMismatchError, match="'other', EMBEDDING_MODEL") as e:
            await third.find(document.id)
    assert "\n" not in str(e.value)
