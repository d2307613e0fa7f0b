"""SERPpost as the service uses it: a source of answers, and what fetches pages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from app.wiring.http import SPARE_CONNECTIONS
from tests.service import RunningService, at_upstream, serve
from tests.upstream import Action, FakeUpstream, Script
from tests.websearch.fake_vendor import KEY, FakeVendor, success

RESULT = {"title": "Zebras", "url": "https://example.org/", "content": "A zebra has stripes."}


@pytest.fixture
async def vendor() -> AsyncIterator[FakeVendor]:
    """Run a fake SERPpost."""
    async with FakeVendor() as running:
        yield running


def at_vendor(vendor: FakeVendor, **settings: Any) -> AbstractAsyncContextManager[RunningService]:
    """Run a service with an account there."""
    return serve(serppost_api_key=KEY, serppost_base_url=vendor.base_url, **settings)


async def test_web_is_a_source(vendor: FakeVendor) -> None:
    """With a key, the results of a web search are among the sources; if it fails, it is named."""
    vendor.script = success([RESULT])
    question = {"role": "user", "content": "Has a zebra stripes?"}
    async with at_vendor(vendor) as service:
        events = await service.chat(messages=[question], retrieve=True)
        vendor.script = Script(status=401, body=b'{"msg": "bad key"}')
        failed = await service.chat(retrieve=True)
    web = [source for source in events[0].data["sources"] if source["source"] == "web"]
    snippet = {"snippet": "A zebra has stripes.", "source": "web"}
    assert web == [{"title": "Zebras", "url": "https://example.org/", **snippet}]
    assert vendor.requests[0].json["s"] == "Has a zebra stripes?"
    assert {"source": "web", "reason": "failed"} in failed[0].data["degraded"]
    assert failed[-1].name == "done"


async def test_more_questions_than_slots(vendor: FakeVendor) -> None:
    """Questions that wait for one of the account's slots do not lose the web as late."""
    vendor.script = success([RESULT], before_headers=0.3)
    async with at_vendor(vendor, serppost_request_slots=1, retrieval_timeout=1) as service:
        questions = [[{"role": "user", "content": f"zebra {n}"}] for n in range(5)]
        asking = (service.chat(messages=messages, retrieve=True) for messages in questions)
        answers = await asyncio.gather(*asking)
    assert "web" not in str([answer[0].data["degraded"] for answer in answers])
    assert vendor.counts.peak == 1


async def test_busy_provider_takes_no_connection_from_a_source(
    vendor: FakeVendor, upstream: FakeUpstream
) -> None:
    """Sources and the provider have separate HTTP clients."""
    vendor.script = success([RESULT])
    upstream.script = Script(before_headers=Action.HOLD)
    settings = at_upstream(upstream, llm_max_concurrency=1, retrieval_timeout=1)
    async with at_vendor(vendor, **settings) as service, asyncio.TaskGroup() as calls:
        for _ in range(1 + SPARE_CONNECTIONS):
            calls.create_task(service.services.http.get(f"{upstream.base_url}/models"))
        await upstream.wait_held(1 + SPARE_CONNECTIONS)
        async with service.stream(retrieve=True) as events:
            sources = (await anext(events)).data
            upstream.release()
            upstream.script = Script()
            assert [event.name async for event in events][-1] == "done"
    assert "web" in str(sources["sources"])
    assert "web" not in str(sources["degraded"])


async def test_starts_without_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a key the service starts, logs that the web is off, and never asks it."""
    async with serve() as service:
        events = await service.chat(retrieve=True)
    assert "SERPPOST_API_KEY is not set" in capsys.readouterr().err
    assert "web" not in str(events[0].data)
