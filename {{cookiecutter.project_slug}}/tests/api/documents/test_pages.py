"""`POST /documents` with a URL: what is fetched, once, and what is refused at once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.api.documents.conftest import Library
from tests.documents.parts import found
from tests.service import error_of, serve
from tests.stores.databases import on_its_own_store
from tests.upstream import Script
from tests.websearch.fake_vendor import KEY, PAGE_URL, FakeVendor, page

pytestmark = on_its_own_store


@pytest.fixture
async def vendor() -> AsyncIterator[FakeVendor]:
    """Run a fake SERPpost."""
    async with FakeVendor() as running:
        yield running


@pytest.fixture
async def library(vendor: FakeVendor, store_address: str) -> AsyncIterator[Library]:
    """Provide a service with an account there."""
    account = {"serppost_api_key": KEY, "serppost_base_url": vendor.base_url}
    async with serve(vector_store_url=store_address, **account) as service:
        yield Library(service)


async def test_page_is_fetched_once(library: Library, vendor: FakeVendor) -> None:
    """A URL is accepted with 202, and 200 the next time; its page is fetched and paid once."""
    vendor.script = page("# Zebras\n\nA zebra has stripes.")
    client = library.service.client
    answer = await client.post("/documents", json={"url": PAGE_URL})
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    document = await library.processed(answer.json()["id"])
    assert (document.state, document.title, document.url) == ("ready", "Zebras", PAGE_URL)
    again = await client.post("/documents", json={"url": PAGE_URL})
    assert (again.status_code, again.json()) == (200, {"id": document.id, "state": "ready"})
    assert len(vendor.requests) == 1


@pytest.mark.parametrize(
    ("script", "state", "attempts"),
    [
        (page(""), "failed", 1),
        (Script(status=401, body=b"{}"), "queued", 0),
        (Script(status=402, body=b"{}"), "queued", 0),
        (Script(status=429, body=b"{}", headers={"Retry-After": "3600"}), "queued", 1),
    ],
)
async def test_page_that_is_not_there(
    library: Library, vendor: FakeVendor, script: Script, state: str, attempts: int
) -> None:
    """A page without text fails; a wrong key, an empty account and a busy vendor only delay."""
    vendor.script = script
    answer = await library.service.client.post("/documents", json={"url": PAGE_URL})
    id_, catalogue = answer.json()["id"], library.documents.catalogue
    while not vendor.requests:
        await library.documents.pipeline.process(id_)
    while (document := await found(catalogue, id_)).state == "processing":  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert (document.state, document.attempts) == (state, attempts)


async def test_url_that_must_not_be_fetched_is_422(library: Library) -> None:
    """A URL that points into a private network is refused with the reason."""
    body = {"url": "http://169.254.169.254/latest"}
    answer = await library.service.client.post("/documents", json=body)
    assert answer.status_code == 422
    assert error_of(answer)["message"].startswith("url: ")
