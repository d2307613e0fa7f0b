"""The vendor as the service uses it: a source of answers, and what fetches pages."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from app.documents.work import OPERATORS
from app.http import build_http_client
from app.ingestion.decoding import ExtractionError
from app.ingestion.protocol import BadKeyError, OutOfCreditError, WebError
from app.jobs.protocol import RetryLater
from app.settings import Settings
from app.web_vendor import open_web
from tests.ingestion.web.fake_vendor import KEY, PAGE_URL, FakeVendor, page, success
from tests.service import serve
from tests.upstream import Script

RESULT = {"title": "Zebras", "url": "https://example.org/", "content": "A zebra has stripes."}


@pytest.fixture
async def vendor() -> AsyncIterator[FakeVendor]:
    """Run a fake SERPpost."""
    async with FakeVendor() as running:
        yield running


def at_vendor(vendor: FakeVendor) -> dict[str, Any]:
    """Return settings for a service with an account there."""
    return {"serppost_api_key": KEY, "serppost_base_url": vendor.base_url}


async def fetched(vendor: FakeVendor) -> str:
    """Fetch a page as a job does."""
    settings = Settings(**{"_env_file": None, **at_vendor(vendor)})
    async with (
        AsyncExitStack() as stack,
        build_http_client(max_connections=9, connect_timeout=9) as client,
    ):
        fetch, _ = await open_web(settings, client, stack)
        return await fetch(PAGE_URL)


async def test_web_is_a_source(vendor: FakeVendor) -> None:
    """With a key, what the web says about the question is among the sources."""
    vendor.script = success([RESULT])
    async with serve(**at_vendor(vendor)) as service:
        events = await service.chat(
            messages=[{"role": "user", "content": "Has a zebra stripes?"}], retrieve=True
        )
    web = [source for source in events[0].data["sources"] if source["source"] == "web"]
    assert web == [
        {
            "title": "Zebras",
            "url": "https://example.org/",
            "snippet": "A zebra has stripes.",
            "source": "web",
        }
    ]
    assert vendor.requests[0].json["s"] == "Has a zebra stripes?"


async def test_vendor_that_fails_is_only_missed(vendor: FakeVendor) -> None:
    """An answer goes on without the web, and neither it nor a log line shows the key."""
    vendor.script = Script(status=401, body=b'{"msg": "bad key"}')
    async with serve(**at_vendor(vendor)) as service:
        events = await service.chat(retrieve=True)
    assert {"source": "web", "reason": "failed"} in events[0].data["degraded"]
    assert events[-1].name == "done"


async def test_starts_without_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a key the service starts, says that the web is off, and asks nobody."""
    async with serve() as service:
        events = await service.chat(retrieve=True)
    assert "SERPPOST_API_KEY is not set" in capsys.readouterr().err
    assert all(source["source"] != "web" for source in events[0].data["sources"])
    assert all(missing["source"] != "web" for missing in events[0].data["degraded"])


async def test_page_is_fetched(vendor: FakeVendor) -> None:
    """A job gets the page as Markdown."""
    vendor.script = page("# Zebras")
    assert await fetched(vendor) == "# Zebras"


async def test_page_that_is_empty_fails(vendor: FakeVendor) -> None:
    """A page that will have no text tomorrow either fails the document."""
    vendor.script = page("")
    with pytest.raises(ExtractionError, match="no text"):
        await fetched(vendor)


@pytest.mark.parametrize(("status", "error"), [(401, BadKeyError), (402, OutOfCreditError)])
async def test_what_the_operator_must_mend_fails_no_document(
    vendor: FakeVendor, status: int, error: type[WebError]
) -> None:
    """A bad key or an empty account is not the page's fault, and says so by its name."""
    vendor.script = Script(status=status, body=b"{}")
    with pytest.raises(error):
        await fetched(vendor)
    assert error.__name__ in OPERATORS


async def test_vendor_that_is_busy_is_asked_later(vendor: FakeVendor) -> None:
    """Where trying again may help the job is repeated, when the vendor says."""
    vendor.script = Script(status=429, body=b"{}", headers={"Retry-After": "3600"})
    with pytest.raises(RetryLater) as later:
        await fetched(vendor)
    assert later.value.after == 3600
