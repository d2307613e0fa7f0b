"""Rate limits over HTTP: what is refused how, what a call reserves, and what it is charged."""

import asyncio
from dataclasses import replace
from math import ceil
from typing import Any

import httpx
import openai
import pytest

from app.clients import Client
from app.ratelimit.base import RateLimited
from app.ratelimit.memory import RateLimiter
from tests.service import (
    COMPLETION,
    EMBEDDING,
    QUESTION,
    RunningService,
    at_upstream,
    error_of,
    eventually,
    serve,
)
from tests.upstream import Action, FakeUpstream, Script, sse

STREAMED = {**COMPLETION, "stream": True}
CHATS = [
    ("/chat", QUESTION),
    ("/v1/chat/completions", STREAMED),
    ("/v1/chat/completions", COMPLETION),
]
ROUTES = [*CHATS, ("/v1/embeddings", EMBEDDING)]
PROMPT = 10
"""The estimate of the question: 12 characters, and what surrounds a message."""
USED = Script().prompt_tokens + Script().completion_tokens
KEYS = {"api_keys": "alice:key-a,bob:key-b"}
ALICE, BOB = ({"Authorization": f"Bearer key-{name}"} for name in "ab")
STREAM = b"".join(
    sse(event)
    for event in (
        {"choices": [{"delta": {"content": "Hello"}}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}]},
        b"[DONE]",
    )
)
"""A whole answer, by a server that does not report its usage."""
TOKENS = "provider:tokens"
REQUESTS = "provider:requests"

every_route = pytest.mark.parametrize(("path", "body"), ROUTES)


class Clock:
    """The limiter's clock, in nanoseconds, which the test moves by seconds."""

    def __init__(self) -> None:
        self._now = 0

    def __call__(self) -> int:
        """Return the time."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += round(seconds * 1e9)


def clocked(service: RunningService) -> Clock:
    """Give the service's limits a clock of the test's."""
    clock = Clock()
    service.use(limits=replace(service.services.limits, limiter=RateLimiter(clock=clock)))
    return clock


async def left(service: RunningService, client: str = "address:127.0.0.1") -> dict[str, int]:
    """Return what is left of each budget of a client."""
    limits = service.services.limits
    budgets = limits.budgets(Client(client))
    try:
        nothing = await limits.limiter.reserve(budgets, tokens=0)
    except RateLimited as refusal:
        return {status.budget.name: status.remaining for status in refusal.statuses}
    nothing.cancel()
    return {
        status.budget.name: status.remaining + (status.budget.unit == "requests")
        for status in nothing.statuses
    }


async def ask(
    service: RunningService, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
) -> httpx.Response:
    """Ask, and wait until the request has given everything back."""
    response = await service.client.post(path, json=body, headers=headers)
    await service.idle()
    return response


@pytest.mark.parametrize(("path", "body"), CHATS[:2])
async def test_retry_after_is_exact(
    upstream: FakeUpstream, path: str, body: dict[str, Any]
) -> None:
    """A request after the Retry-After is admitted, one a second earlier is refused again."""
    async with serve(**at_upstream(upstream, rate_limit_requests=2)) as service:
        clock = clocked(service)
        assert (await ask(service, path, body)).status_code == 200
        assert (await ask(service, path, body)).status_code == 200
        clock.advance(20.5)
        refused = await ask(service, path, body)
        wait = int(refused.headers["retry-after"])
        clock.advance(wait - 1)
        early = await ask(service, path, body)
        clock.advance(1)
        assert (await ask(service, path, body)).status_code == 200
    assert [refused.status_code, early.status_code] == [429, 429]
    assert error_of(refused)["type"] == "rate_limited"
    assert wait == ceil(error_of(refused)["retry_after"]) == 41
    assert (early.headers["retry-after"], upstream.counts.received) == ("1", 3)


async def test_refusal_has_the_fields_of_all_budgets() -> None:
    """A 429 carries the IETF's fields: the policies, what is left of each and until when."""
    limits = {"rate_limit_requests": 9, "client_rate_limit_requests": 1, "rate_limit_window": 30}
    async with serve(**KEYS, **limits) as service:
        clocked(service)
        assert (await ask(service, "/chat", QUESTION, ALICE)).is_success
        refused = await ask(service, "/chat", QUESTION, ALICE)
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
    """An answer has the status of the client's own budgets, and not of the provider's tier."""
    limits = {"rate_limit_requests": 9, "client_rate_limit_requests": 5}
    async with serve(**at_upstream(upstream, **KEYS, **limits)) as service:
        for number, (path, body) in enumerate(ROUTES, start=1):
            answer = await ask(service, path, body, ALICE)
            assert answer.headers["ratelimit"].startswith(
                f'"client:alice:requests";r={5 - number};'
            )
            assert "provider" not in answer.headers["ratelimit-policy"]


async def test_chat_that_waits_has_no_fields(upstream: FakeUpstream) -> None:
    """A response that begins in the queue has no fields: no budget is charged yet."""
    settings = at_upstream(upstream, llm_max_concurrency=1, client_rate_limit_requests=5)
    upstream.script = Script(before_event={2: Action.HOLD})
    async with serve(**settings) as service, service.stream() as first:
        await anext(first)
        async with service.client.stream("POST", "/chat", json=QUESTION) as waiting:
            assert waiting.status_code == 200
            assert "ratelimit" not in waiting.headers
            assert (await left(service))["client:address:127.0.0.1:requests"] == 4


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
        for path, body in CHATS:
            refused = await ask(service, path, {**body, "max_tokens": 91})
            assert (refused.status_code, error_of(refused)["code"]) == (413, "cost_above_limit")
            assert "retry-after" not in refused.headers
            assert "101 tokens" in error_of(refused)["message"]
            assert "100 per 60 s" in error_of(refused)["message"]
        assert (await left(service), upstream.counts.received) == ({TOKENS: 100}, 0)
        assert (await ask(service, "/chat", {**QUESTION, "max_tokens": 90})).is_success


@pytest.mark.parametrize("whose", ["client", "provider"])
async def test_refusal_uses_up_no_other_budget(upstream: FakeUpstream, whose: str) -> None:
    """Refused for one budget, a request leaves the others as they were, and the provider alone."""
    limits: dict[str, Any] = {"rate_limit_requests": 50, "client_rate_limit_requests": 50}
    limits["rate_limit_requests" if whose == "provider" else "client_rate_limit_requests"] = 1
    async with serve(**at_upstream(upstream, **KEYS, **limits)) as service:
        assert (await ask(service, "/chat", QUESTION, ALICE)).status_code == 200
        before = await left(service, "alice")
        for path, body in ROUTES:
            assert (await ask(service, path, body, ALICE)).status_code == 429
        assert await left(service, "alice") == before
        other = await ask(service, "/chat", QUESTION, BOB)
    assert sorted(before.values()) == [0, 49]
    assert other.status_code == (429 if whose == "provider" else 200)
    assert upstream.counts.received == (1 if whose == "provider" else 2)


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, {"max_tokens": 300}),
        ({"max_tokens": 20}, {"max_tokens": 20}),
        ({"max_completion_tokens": 30}, {"max_completion_tokens": 30}),
        ({"max_tokens": None}, {"max_tokens": 300}),
    ],
)
async def test_what_is_reserved_is_sent(
    upstream: FakeUpstream, asked: dict[str, Any], sent: dict[str, Any]
) -> None:
    """The provider is bounded to the output that was reserved: the client's bound or our own."""
    upstream.script = Script(before_headers=Action.HOLD)
    settings = at_upstream(upstream, rate_limit_tokens=5000, llm_max_tokens=300)
    async with serve(**settings) as service, asyncio.TaskGroup() as clients:
        body = {**COMPLETION, **asked, "stream": "max_tokens" in asked}
        clients.create_task(ask(service, "/v1/chat/completions", body))
        await upstream.wait_held(1)
        assert await left(service) == {TOKENS: 5000 - PROMPT - next(iter(sent.values()))}
        upstream.release()
    received = upstream.requests[0].json
    assert {name: received[name] for name in received if name.startswith("max_")} == sent


async def test_without_a_token_budget_nothing_is_added(upstream: FakeUpstream) -> None:
    """Where tokens are not limited, or are not output, the request is not bounded either."""
    async with serve(**at_upstream(upstream, rate_limit_requests=5)) as service:
        for path, body in ROUTES:
            assert (await ask(service, path, body)).is_success
    async with serve(**at_upstream(upstream, rate_limit_tokens=5000)) as service:
        await ask(service, "/v1/embeddings", EMBEDDING)
    assert not any("max_tokens" in request.json for request in upstream.requests)


async def test_settled_with_the_usage(upstream: FakeUpstream) -> None:
    """After an answer the budgets have lost what was used, not the thousands reserved."""
    limits = {"rate_limit_tokens": 5000, "client_rate_limit_tokens": 6000}
    used = 0
    async with serve(**at_upstream(upstream, **KEYS, **limits)) as service:
        for path, body in ROUTES * 2:
            assert (await ask(service, path, body, ALICE)).is_success
            used += Script().prompt_tokens if body is EMBEDDING else USED
            now = await left(service, "alice")
            assert now == {TOKENS: 5000 - used, "client:alice:tokens": 6000 - used}


@pytest.mark.parametrize(("path", "body"), CHATS[:2])
async def test_client_that_hangs_up_is_charged_what_came(
    upstream: FakeUpstream, path: str, body: dict[str, Any]
) -> None:
    """A client that leaves in mid-stream is charged what had been received by then."""
    upstream.script = Script(tokens=["12345678", "lost"], before_event={2: Action.HOLD})
    async with serve(**at_upstream(upstream, rate_limit_tokens=5000)) as service:
        async with service.client.stream("POST", path, json=body) as response:
            await anext(response.aiter_bytes())
            assert await left(service) == {TOKENS: 5000 - PROMPT - 4096}
        await upstream.wait_aborted(1)
        await service.idle()
        assert await left(service) == {TOKENS: 5000 - PROMPT - 2}


@every_route
async def test_unknown_usage_gives_nothing_back(
    upstream: FakeUpstream, path: str, body: dict[str, Any]
) -> None:
    """An answer that ends well without its usage keeps its estimate."""
    upstream.script = Script(body=STREAM if body in (QUESTION, STREAMED) else b'{"choices": []}')
    async with serve(**at_upstream(upstream, rate_limit_tokens=5000)) as service:
        assert (await ask(service, path, body)).is_success
        charged = 5000 - (await left(service))[TOKENS]
    assert charged == (3 if body is EMBEDDING else PROMPT + 4096)


@every_route
async def test_client_that_left_before_the_answer_gets_nothing_back(
    upstream: FakeUpstream, path: str, body: dict[str, Any]
) -> None:
    """What the provider had begun on is unknown when its client leaves: the estimate stays."""
    upstream.script = Script(before_headers=Action.HOLD)
    async with serve(**at_upstream(upstream, rate_limit_tokens=5000)) as service:
        asking = asyncio.create_task(service.client.post(path, json=body))
        await upstream.wait_held(1)
        asking.cancel()
        await upstream.wait_aborted(1)
        await service.idle()
        charged = 5000 - (await left(service))[TOKENS]
    assert charged == (3 if body is EMBEDDING else PROMPT + 4096)


async def test_providers_refusal_costs_no_tokens(upstream: FakeUpstream) -> None:
    """What the provider refused used a request, but no tokens."""
    limits = {"rate_limit_tokens": 5000, "rate_limit_requests": 50}
    async with serve(**at_upstream(upstream, **limits)) as service:
        for status in (400, 401, 429, 529):
            upstream.script = Script(status=status, headers={"retry-after": "9"})
            for path, body in ROUTES:
                assert (await ask(service, path, body)).is_error
        assert await left(service) == {TOKENS: 5000, REQUESTS: 50 - 4 * len(ROUTES)}


@pytest.mark.parametrize(("path", "body"), ROUTES[::3])
async def test_providers_own_count_counts_if_lower(
    upstream: FakeUpstream, path: str, body: dict[str, Any]
) -> None:
    """What the provider reports as left of its tier lowers what is left here, never raises it."""
    reported = {"x-ratelimit-remaining-requests": "2", "x-ratelimit-remaining-tokens": "999999"}
    upstream.script = Script(headers={**reported, "x-ratelimit-reset-requests": "6m0s"})
    limits = {"rate_limit_requests": 50, "rate_limit_tokens": 9000}
    async with serve(**at_upstream(upstream, **limits)) as service:
        assert (await ask(service, path, body)).is_success
        now = await left(service)
    assert now[REQUESTS] == 2
    assert now[TOKENS] >= 9000 - USED


async def test_fallbacks_count_is_not_the_tiers(upstream: FakeUpstream) -> None:
    """The tier is the first provider's: what the fallback reports does not count."""
    reported = {"anthropic-ratelimit-requests-remaining": "1"}
    upstream.queue.extend([Script(status=401), Script(headers=reported)])
    settings: dict[str, Any] = {
        "llm_provider": "openai,anthropic",
        "anthropic_base_url": upstream.origin,
        "anthropic_api_key": "key",
        "rate_limit_requests": 50,
    }
    async with serve(**at_upstream(upstream, **settings)) as service:
        assert (await ask(service, "/chat", QUESTION)).is_success
        assert await left(service) == {REQUESTS: 49}
    assert upstream.counts.received == 2


async def test_each_process_has_its_share(upstream: FakeUpstream) -> None:
    """Four processes that do not see each other have a quarter of every limit each."""
    limits = {"rate_limit_requests": 9, "client_rate_limit_tokens": 20_001}
    reported = {"x-ratelimit-remaining-requests": "5"}
    async with serve(**at_upstream(upstream, workers=4, **limits)) as service:
        own = "client:address:127.0.0.1:tokens"
        assert await left(service) == {REQUESTS: 2, own: 5000}
        await ask(service, "/chat", QUESTION)
        assert await left(service) == {REQUESTS: 1, own: 5000 - USED}
        await ask(service, "/chat", QUESTION)
        assert (await ask(service, "/chat", QUESTION)).status_code == 429
    upstream.script = Script(headers=reported)
    async with serve(**at_upstream(upstream, workers=4, rate_limit_requests=40)) as service:
        await ask(service, "/chat", QUESTION)
        assert await left(service) == {REQUESTS: 1}


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
        asked = [clients.create_task(ask_plainly(service)) for _ in range(3)]
        await upstream.wait_held(1)
        await eventually(lambda: service.queued == 2)
        upstream.script = Script()
        upstream.release()
    assert sorted(task.result() for task in asked) == [200, 200, 429]
    assert (service.in_flight, service.queued, upstream.counts.received) == (0, 0, 2)


@every_route
async def test_settled_before_the_slot_goes_on(
    upstream: FakeUpstream, path: str, body: dict[str, Any]
) -> None:
    """Checked before there is a slot, reserved and settled while it is held: the next finds all."""
    in_flight: list[int] = []
    async with serve(**at_upstream(upstream, rate_limit_tokens=5000)) as service:

        def clock() -> int:
            in_flight.append(service.in_flight)
            return 0

        limiter = RateLimiter(clock=clock)
        service.use(limits=replace(service.services.limits, limiter=limiter))
        assert (await ask(service, path, body)).is_success
    assert in_flight == [0, 1, 1]


async def ask_plainly(service: RunningService) -> int:
    """Ask for a whole answer; return the status."""
    return (await service.client.post("/v1/chat/completions", json=COMPLETION)).status_code


COST_UNKNOWN: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"max_tokens": "many"}),
    ("/v1/chat/completions", {"max_tokens": -5000}),
    ("/v1/chat/completions", {"max_tokens": 1.5}),
    ("/v1/chat/completions", {"max_completion_tokens": [1]}),
    ("/v1/chat/completions", {"n": "two"}),
    ("/v1/chat/completions", {"n": -2}),
    ("/v1/embeddings", {"messages": [{"role": "user", "content": "cheap"}]}),
    ("/v1/embeddings", {"messages": 5}),
]


async def test_cost_that_makes_no_sense_is_400(upstream: FakeUpstream) -> None:
    """A body whose cost makes no sense is refused as such: no way round the budget, no 500."""
    async with serve(**at_upstream(upstream, rate_limit_tokens=5000)) as service:
        for path, wrong in COST_UNKNOWN:
            refused = await ask(service, path, {**dict(ROUTES)[path], **wrong})
            (field,) = wrong
            assert (refused.status_code, error_of(refused)["param"]) == (400, field)
        assert await left(service) == {TOKENS: 5000}
    assert upstream.counts.received == 0
