"""Rate limits over HTTP: which requests are refused, and what the refusal says."""

import asyncio
from dataclasses import replace
from functools import partial
from math import ceil
from types import SimpleNamespace
from typing import Any

import openai
import pytest

from app.ratelimit.memory import RateLimiter
from tests.service import (
    COMPLETION,
    EMBEDDING,
    QUESTION,
    ROUTES,
    RunningService,
    at_upstream,
    error_of,
    eventually,
    serve,
)
from tests.upstream import Action, FakeUpstream, Script

USED = Script().prompt_tokens + Script().completion_tokens
KEYS = {"api_keys": "alice:key-a,bob:key-b"}
ALICE, BOB = ({"Authorization": f"Bearer key-{name}"} for name in "ab")
TOKENS, REQUESTS = "provider:tokens", "provider:requests"


def clocked(service: RunningService) -> SimpleNamespace:
    """Give the service's limits a clock that the test moves: its `now`, in seconds."""
    clock = SimpleNamespace(now=0)
    limiter = RateLimiter(clock=lambda: round(clock.now * 1e9))
    service.use(limits=replace(service.services.limits, limiter=limiter))
    return clock


async def test_retry_after_is_exact(upstream: FakeUpstream) -> None:
    """A request after the Retry-After is admitted, one a second earlier is refused again."""
    async with serve(**at_upstream(upstream, rate_limit_requests=2)) as service:
        clock = clocked(service)
        assert (await service.ask("/chat", QUESTION)).status_code == 200
        assert (await service.ask("/chat", QUESTION)).status_code == 200
        clock.now += 20.5
        refused = await service.ask("/chat", QUESTION)
        wait = int(refused.headers["retry-after"])
        clock.now += wait - 1
        early = await service.ask("/chat", QUESTION)
        clock.now += 1
        assert (await service.ask("/chat", QUESTION)).status_code == 200
    assert [refused.status_code, early.status_code] == [429, 429]
    assert error_of(refused)["type"] == "rate_limited"
    assert wait == ceil(error_of(refused)["retry_after"]) == 41
    assert (early.headers["retry-after"], upstream.counts.received) == ("1", 3)


async def test_refusal_has_the_fields_of_all_budgets() -> None:
    """A 429 carries the IETF's fields: the policies, what is left of each and until when."""
    limits = {"rate_limit_requests": 9, "client_rate_limit_requests": 1, "rate_limit_window": 30}
    async with serve(**KEYS, **limits) as service:
        clocked(service)
        assert (await service.ask("/chat", QUESTION, ALICE)).is_success
        refused = await service.ask("/chat", QUESTION, ALICE)
    assert refused.headers["ratelimit-policy"] == (
        '"client:alice:requests";q=1;qu="requests";w=30, "provider:requests";q=9;qu="requests";w=30'
    )
    assert refused.headers["ratelimit"] == (
        '"client:alice:requests";r=0;t=31, "provider:requests";r=8;t=31'
    )
    message = error_of(refused)["message"]
    assert "client:alice:requests" in message
    assert "1 asked for, 0 left of 1 per 30 s" in message


async def test_answer_has_the_fields_of_the_clients_budgets(upstream: FakeUpstream) -> None:
    """Not of the provider's tier; and none where it begins in the queue, charged with nothing."""
    limits = {"rate_limit_requests": 9, "client_rate_limit_requests": 6}
    async with serve(**at_upstream(upstream, **KEYS, **limits, llm_max_concurrency=1)) as service:
        for number, (path, body) in enumerate(ROUTES, start=1):
            answer = await service.ask(path, body, ALICE)
            assert answer.headers["ratelimit"].startswith(
                f'"client:alice:requests";r={6 - number};'
            )
            assert "provider" not in answer.headers["ratelimit-policy"]
        upstream.script = Script(before_event={2: Action.HOLD})
        chat = partial(service.client.stream, "POST", "/chat", json=QUESTION, headers=ALICE)
        async with chat(), chat() as waiting:
            assert waiting.status_code == 200
            assert "ratelimit" not in waiting.headers
            assert (await service.left("alice"))["client:alice:requests"] == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_openai_client_raises_rate_limit_error(upstream: FakeUpstream, stream: bool) -> None:
    """OpenAI's client raises its own error and finds the headers that it waits by."""
    async with serve(**at_upstream(upstream, rate_limit_requests=1)) as service:
        clocked(service)
        await service.openai.chat.completions.create(**COMPLETION)
        with pytest.raises(openai.RateLimitError) as refused:
            await service.openai.chat.completions.create(**COMPLETION, stream=stream)
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.response.headers["retry-after"] == "61"


async def test_cost_above_the_limit_is_413(upstream: FakeUpstream) -> None:
    """A call that no waiting would admit is too large: with both figures and no Retry-After."""
    async with serve(**at_upstream(upstream, rate_limit_tokens=100, llm_max_tokens=50)) as service:
        for path, body in ROUTES[:3]:
            refused = await service.ask(path, {**body, "max_tokens": 91})
            assert (refused.status_code, error_of(refused)["code"]) == (413, "cost_above_limit")
            assert "retry-after" not in refused.headers
            assert "101 tokens" in error_of(refused)["message"]
            assert "100 per 60 s" in error_of(refused)["message"]
        assert (await service.left(), upstream.counts.received) == ({TOKENS: 100}, 0)
        assert (await service.ask("/chat", {**QUESTION, "max_tokens": 90})).is_success


@pytest.mark.parametrize("whose", ["client", "provider"])
async def test_refusal_uses_up_no_other_budget(upstream: FakeUpstream, whose: str) -> None:
    """Refused for one budget, a request leaves the others as they were, and the provider alone."""
    limits: dict[str, Any] = {"rate_limit_requests": 50, "client_rate_limit_requests": 50}
    limits["rate_limit_requests" if whose == "provider" else "client_rate_limit_requests"] = 1
    async with serve(**at_upstream(upstream, **KEYS, **limits)) as service:
        assert (await service.ask("/chat", QUESTION, ALICE)).status_code == 200
        before = await service.left("alice")
        for path, body in ROUTES:
            assert (await service.ask(path, body, ALICE)).status_code == 429
        assert await service.left("alice") == before
        other = await service.ask("/chat", QUESTION, BOB)
    assert sorted(before.values()) == [0, 49]
    assert other.status_code == (429 if whose == "provider" else 200)
    assert upstream.counts.received == (1 if whose == "provider" else 2)


async def test_providers_own_count_counts_if_lower(upstream: FakeUpstream) -> None:
    """What the first provider reports as left lowers what is left here, and never raises it."""
    reported = {"x-ratelimit-remaining-requests": "2", "x-ratelimit-remaining-tokens": "999999"}
    seen = Script(headers={**reported, "x-ratelimit-reset-requests": "6m0s"})
    limits = {"rate_limit_requests": 50, "rate_limit_tokens": 9000}
    for path, body in ROUTES[::3]:
        upstream.script = seen
        async with serve(**at_upstream(upstream, **limits)) as service:
            assert (await service.ask(path, body)).is_success
            now = await service.left()
        assert now[REQUESTS] == 2
        assert now[TOKENS] >= 9000 - USED
    fallback = Script(headers={"anthropic-ratelimit-requests-remaining": "1"})
    upstream.queue.extend([Script(status=401), fallback])
    settings: dict[str, Any] = {
        "llm_provider": "openai,anthropic",
        "anthropic_base_url": upstream.origin,
        "anthropic_api_key": "key",
    }
    async with serve(**at_upstream(upstream, **settings, **limits)) as service:
        assert (await service.ask("/chat", QUESTION)).is_success
        assert (await service.left())[REQUESTS] == 49


async def test_each_process_has_its_share(upstream: FakeUpstream) -> None:
    """Four processes that do not see each other have a quarter of every limit each."""
    limits = {"rate_limit_requests": 9, "client_rate_limit_tokens": 20_001}
    reported = {"x-ratelimit-remaining-requests": "5"}
    async with serve(**at_upstream(upstream, workers=4, **limits)) as service:
        own = "client:address:127.0.0.1:tokens"
        assert await service.left() == {REQUESTS: 2, own: 5000}
        await service.ask("/chat", QUESTION)
        assert await service.left() == {REQUESTS: 1, own: 5000 - USED}
        await service.ask("/chat", QUESTION)
        assert (await service.ask("/chat", QUESTION)).status_code == 429
    upstream.script = Script(headers=reported)
    async with serve(**at_upstream(upstream, workers=4, rate_limit_requests=40)) as service:
        await service.ask("/chat", QUESTION)
        assert await service.left() == {REQUESTS: 1}


async def test_used_up_budget_refuses_before_the_queue(upstream: FakeUpstream) -> None:
    """A budget known to be used up refuses at once, also where the request would have queued."""
    upstream.script = Script(before_headers=Action.HOLD)
    settings = at_upstream(upstream, llm_max_concurrency=1, rate_limit_requests=1)
    async with serve(**settings) as service, asyncio.TaskGroup() as clients:
        first = clients.create_task(service.client.post("/chat", json=QUESTION))
        await upstream.wait_held(1)
        refused = [await service.client.post(path, json=body) for path, body in ROUTES]
        limiter = service.services.limiter.snapshot()
        assert (limiter.in_flight, limiter.queued, limiter.abandoned) == (1, 0, 0)
        upstream.release()
    assert [response.status_code for response in refused] == [429] * len(ROUTES)
    assert (first.result().status_code, upstream.counts.received) == (200, 1)


async def test_budget_used_up_while_it_waited(upstream: FakeUpstream) -> None:
    """A request that waited and finds its budget used up gives its slot back."""
    upstream.script = Script(before_headers=Action.HOLD)
    settings = at_upstream(upstream, llm_max_concurrency=1, rate_limit_requests=2)
    async with serve(**settings) as service, asyncio.TaskGroup() as clients:
        post = service.client.post
        asked = [clients.create_task(post("/v1/embeddings", json=EMBEDDING)) for _ in range(3)]
        await upstream.wait_held(1)
        await eventually(lambda: service.queued == 2)
        upstream.script = Script()
        upstream.release()
    assert sorted(task.result().status_code for task in asked) == [200, 200, 429]
    assert (service.in_flight, service.queued, upstream.counts.received) == (0, 0, 2)
