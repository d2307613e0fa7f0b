"""Fallback in the service: what one provider says of its load stops nobody that another serves."""

from typing import Any

import pytest

from tests.service import EMBEDDING, QUESTION, RunningService, at_upstream, error_of, serve, text_of
from tests.upstream import FakeUpstream, Script
from tests.upstream.wire import Request

SLOTS = 10
AT_ONCE = {"retry-after-ms": "0"}


def falling_back(upstream: FakeUpstream, to: str) -> dict[str, Any]:
    """Return settings for openai at this upstream, then `to`, under a ceiling that adapts."""
    return at_upstream(
        upstream,
        llm_adaptive=True,
        llm_max_concurrency=SLOTS,
        llm_provider=f"openai,{to}",
        llm_queue_timeout=3,
        anthropic_base_url=upstream.origin,
        anthropic_api_key="key",
    )


def limited(retry_after: int) -> Script:
    """Make the refusal of a provider whose rate is used up."""
    return Script(status=429, headers={"retry-after": str(retry_after)})


async def answers(service: RunningService, requests: int) -> list[str]:
    """Ask one after the other; return the texts of the answers, which are whole."""
    texts = []
    for _ in range(requests):
        events = await service.chat()
        assert events[-1].name == "done"
        texts.append(text_of(events))
    return texts


@pytest.mark.parametrize("retry_after", [7, 120])
async def test_refusal_of_the_first_stops_nobody(upstream: FakeUpstream, retry_after: int) -> None:
    """While the first provider asks to be left alone, it is, and the next answers at once."""
    upstream.script = limited(retry_after)
    async with serve(**falling_back(upstream, "echo")) as service:
        assert await answers(service, 3) == [QUESTION["messages"][0]["content"]] * 3
        assert service.services.limiter.limit == SLOTS
    assert upstream.counts.received == 1


async def test_embeddings_wait_for_the_first_alone(upstream: FakeUpstream) -> None:
    """Embeddings have no fallback: they are told how long the first provider is left alone."""
    upstream.script = limited(40)
    async with serve(**falling_back(upstream, "echo")) as service:
        await answers(service, 1)
        refused = await service.client.post("/v1/embeddings", json=EMBEDDING)
    assert (refused.status_code, error_of(refused)["type"]) == (429, "provider_rate_limited")
    assert 0 < error_of(refused)["retry_after"] <= 40
    assert upstream.counts.received == 1


async def test_shortest_wait_is_told_when_all_refuse(upstream: FakeUpstream) -> None:
    """When every provider is left alone, the client is told when the first of them is back."""

    def script(request: Request) -> Script:
        return limited(40 if request.path == "/v1/messages" else 50)

    upstream.script = script
    async with serve(**falling_back(upstream, "anthropic")) as service:
        refused = [await service.client.post("/chat", json=QUESTION) for _ in range(2)]
    assert [response.status_code for response in refused] == [429, 429]
    assert {error_of(response)["type"] for response in refused} == {"provider_rate_limited"}
    assert error_of(refused[0])["retry_after"] == 40
    assert 0 < error_of(refused[1])["retry_after"] < 40
    assert upstream.counts.received == 2


async def test_load_that_nobody_bears_lowers_the_ceiling(upstream: FakeUpstream) -> None:
    """The last provider's refusal is everybody's, and the ceiling follows it."""
    upstream.script = Script(status=503, headers=AT_ONCE)
    async with serve(**falling_back(upstream, "anthropic")) as service:
        refused = await service.client.post("/chat", json=QUESTION)
        assert refused.status_code == 503
        assert 1 <= service.services.limiter.limit < SLOTS


async def test_load_that_the_fallback_bears_leaves_the_ceiling(upstream: FakeUpstream) -> None:
    """The first provider's refusals are no reason to let fewer calls through to the next."""
    upstream.script = Script(status=503, headers=AT_ONCE)
    async with serve(**falling_back(upstream, "echo")) as service:
        await answers(service, 2)
        assert service.services.limiter.limit == SLOTS
