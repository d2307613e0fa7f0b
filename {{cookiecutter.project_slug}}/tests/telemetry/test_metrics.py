"""`GET /metrics`: what an operator's Prometheus reads of the service."""

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from tests.service import (
    COMPLETION,
    EMBEDDING,
    QUESTION,
    RunningService,
    at_upstream,
    eventually,
    serve,
)
from tests.upstream import Action, FakeUpstream, Script

Labels = frozenset[tuple[str, str]]


async def scrape(service: RunningService) -> dict[tuple[str, Labels], float]:
    """Read all samples as Prometheus does; none may be there twice."""
    response = await service.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(response.text))
    samples = [
        ((sample.name, frozenset(sample.labels.items())), sample.value)
        for family in families
        for sample in family.samples
    ]
    assert len(samples) == len(dict(samples)) > 0
    assert all(family.documentation and family.type != "unknown" for family in families)
    return dict(samples)


def sample(name: str, **labels: str) -> tuple[str, Labels]:
    """Name a sample."""
    return name, frozenset(labels.items())


async def test_requests_are_counted_by_route(upstream: FakeUpstream) -> None:
    """Requests count by route and status; paths nobody serves are one, and odd methods."""
    async with serve(**at_upstream(upstream)) as service:
        for path in ("/chat", "/chat", "/v1/chat/completions", "/no/1", "/no/2?key=secret"):
            await service.client.post(path, json=COMPLETION if "v1" in path else QUESTION)
        await service.client.post("/chat", json={})
        await service.client.request("PROPFIND", "/chat")
        await service.client.get("/livez")
        samples = await scrape(service)
    counted = {key[1]: value for key, value in samples.items() if key[0] == "http_requests_total"}
    assert counted == {
        frozenset({"method": method, "route": route, "status": status}.items()): number
        for method, route, status, number in [
            ("POST", "/chat", "200", 2),
            ("POST", "/chat", "422", 1),
            ("POST", "/v1/chat/completions", "200", 1),
            ("POST", "unmatched", "404", 2),
            ("other", "/chat", "405", 1),
        ]
    }
    for timed in ("http_first_byte_seconds_count", "http_request_duration_seconds_count"):
        assert samples[sample(timed, route="/chat")] == 4


async def test_limiter_is_read_when_asked(upstream: FakeUpstream) -> None:
    """The numbers of the limiter are of the moment; each request for a slot has an outcome."""
    upstream.script = Script(before_headers=Action.HOLD)
    async with serve(**at_upstream(upstream, llm_max_concurrency=1, llm_max_queue=1)) as service:
        asking = [asyncio.create_task(service.chat())]
        await upstream.wait_held(1)
        asking.append(asyncio.create_task(service.chat()))
        await eventually(lambda: service.queued == 1)
        assert (await service.client.post("/chat", json=QUESTION)).status_code == 503
        busy = await scrape(service)
        upstream.script = Script()
        upstream.release()
        await asyncio.gather(*asking)
        await service.idle()
        idle = await scrape(service)
    names = ("llm_limit", "llm_in_flight", "llm_queued")
    assert [busy[sample(name)] for name in names] == [1, 1, 1]
    assert [idle[sample(name)] for name in names] == [1, 0, 0]
    assert busy[sample("llm_slot_requests_total", outcome="refused")] == 1
    assert idle[sample("llm_slot_requests_total", outcome="released")] == 2
    assert idle[sample("llm_queue_wait_seconds_total")] > 0


async def test_tokens_are_counted(upstream: FakeUpstream) -> None:
    """The tokens of every answer count, prompt and completion apart."""
    async with serve(**at_upstream(upstream)) as service:
        for path, body in [
            ("/chat", QUESTION),
            ("/v1/chat/completions", {**COMPLETION, "stream": True}),
            ("/v1/chat/completions", COMPLETION),
            ("/v1/embeddings", EMBEDDING),
        ]:
            await service.client.post(path, json=body)
        await service.idle()
        samples = await scrape(service)
    assert samples[sample("llm_tokens_total", kind="prompt")] == 4 * 7
    assert samples[sample("llm_tokens_total", kind="completion")] == 3 * 5
