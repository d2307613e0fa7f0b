"""`POST /chat` with `retrieve`: what is found comes first, and what is refused costs nothing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from app.retrieval.base import Found, Source
from app.retrieval.gather import Retriever
from tests.service import (
    QUESTION,
    Event,
    RunningService,
    at_upstream,
    error_of,
    eventually,
    serve,
)
from tests.upstream import Action, FakeUpstream, Script

RETRIEVE = {**QUESTION, "retrieve": True}
ZEBRA = Found("Zebras", "A zebra has stripes.", "animals", "https://example.org/zebra")


class Shelf:
    """A source that answers when it is told to; it counts who asks, and who was cancelled."""

    def __init__(self, name: str = "animals") -> None:
        self.name = name
        self.found: Sequence[Found] = [ZEBRA]
        self.error: Exception | None = None
        self.asked = self.cancelled = 0
        self.open = asyncio.Event()
        self.open.set()

    async def search(self, question: str, *, limit: int) -> Sequence[Found]:  # noqa: ARG002
        """See `Source.search`."""
        self.asked += 1
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return self.found


@asynccontextmanager
async def serve_from(
    *sources: Source, within: float = 60, **settings: Any
) -> AsyncIterator[RunningService]:
    """Run a service that looks in these sources."""
    async with serve(**settings) as service:
        metrics = service.services.metrics
        retriever = Retriever(
            dict.fromkeys(sources, 9),
            timeout=within,
            queue_timeout=60,
            limit=9,
            on_degraded=lambda missing, _: metrics.count_degraded(missing.source),
        )
        service.use(retrieval=replace(service.services.retrieval, retriever=retriever))
        yield service


async def test_sources_come_first_and_are_in_the_prompt(upstream: FakeUpstream) -> None:
    """The first event says what was found; the provider is given it before the question."""
    async with serve_from(Shelf(), **at_upstream(upstream)) as service:
        events = await service.chat(retrieve=True)
    found = {"title": "Zebras", "url": "https://example.org/zebra", "source": "animals"}
    sources = [found | {"snippet": "A zebra has stripes."}]
    assert events[0] == Event("sources", {"sources": sources, "degraded": []})
    assert events[-1].name == "done"
    body = upstream.requests[-1].json
    assert "retrieve" not in body
    *_, passages, question = body["messages"]
    assert question == QUESTION["messages"][-1]
    assert "A zebra has stripes." in passages["content"]


async def test_failing_and_late_sources_are_named() -> None:
    """An answer goes on without sources that fail or are late, says so, and it is counted."""
    broken, late = Shelf("broken"), Shelf("late")
    broken.error = RuntimeError("secret-host is down")
    late.open.clear()
    async with serve_from(Shelf(), broken, late, within=0.5) as service:
        events = await service.chat(retrieve=True)
        metrics = (await service.client.get("/metrics")).text
    assert len(events[0].data["sources"]) == 1
    assert events[0].data["degraded"] == [
        {"source": "broken", "reason": "failed"},
        {"source": "late", "reason": "timed out"},
    ]
    assert events[-1].name == "done"
    assert late.cancelled == 1
    assert 'retrieval_degraded_total{source="broken"} 1.0' in metrics
    assert "secret-host" not in str(events)


async def test_client_that_leaves_ends_the_searches(upstream: FakeUpstream) -> None:
    """Retrieval holds no slot; when its client hangs up, all searches are cancelled."""
    shelves = [Shelf("one"), Shelf("two")]
    for shelf in shelves:
        shelf.open.clear()
    settings = at_upstream(upstream, llm_max_concurrency=1, llm_max_queue=1)
    async with serve_from(*shelves, **settings) as service:
        async with service.asking("/chat", RETRIEVE):
            await eventually(lambda: all(shelf.asked for shelf in shelves))
            assert [event.name for event in await service.chat()][-1] == "done"
        await service.idle()
        assert [shelf.cancelled for shelf in shelves] == [1, 1]
    assert upstream.counts.received == 1


async def test_refused_before_retrieval_costs_money(upstream: FakeUpstream) -> None:
    """With no room, or its budget used up, a request is refused before any source is searched.

    A question that does not ask for it costs no retrieval and has no `sources`.
    """
    shelf = Shelf()
    upstream.script = Script(before_event={2: Action.HOLD})
    full = at_upstream(upstream, llm_max_concurrency=1, llm_max_queue=0)
    async with serve_from(shelf, **full) as service, service.stream() as holder:
        await anext(holder)
        answer = await service.client.post("/chat", json=RETRIEVE)
        assert (answer.status_code, error_of(answer)["type"]) == (503, "queue_full")
    async with serve_from(shelf, client_rate_limit_requests=1) as service:
        assert "sources" not in {event.name for event in await service.chat()}
        answer = await service.client.post("/chat", json=RETRIEVE)
    assert (answer.status_code, error_of(answer)["type"]) == (429, "rate_limited")
    assert shelf.asked == 0


async def test_context_is_cut_to_its_budget() -> None:
    """The passages are cut to RETRIEVAL_TOKENS, and the event shows what the model was given."""
    shelf = Shelf()
    shelf.found = [Found("", "A zebra has stripes. " * 50, "animals")]
    async with serve_from(shelf, retrieval_tokens=5) as service:
        events = await service.chat(retrieve=True)
    (source,) = events[0].data["sources"]
    assert 0 < len(source["snippet"]) <= 20
