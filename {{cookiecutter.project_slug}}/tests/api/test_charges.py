"""What a call reserves of the budgets, and what it is charged."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from app.ratelimit.memory import RateLimiter
from tests.service import (
    COMPLETION,
    EMBEDDING,
    QUESTION,
    ROUTES,
    STREAMED,
    STREAMS,
    at_upstream,
    serve,
)
from tests.upstream import Action, FakeUpstream, Script, ToolCall, sse

PROMPT = 10
"""The estimate of the question: 12 characters, and what surrounds a message."""
OUTPUT = 4096
"""The output of which no limit was asked for: LLM_MAX_TOKENS."""
USED = Script().prompt_tokens + Script().completion_tokens
KEYS = {"api_keys": "alice:key-a"}
ALICE = {"Authorization": "Bearer key-a"}
TOKENS, REQUESTS = "provider:tokens", "provider:requests"
PLENTY = 10**6

every_route = pytest.mark.parametrize(("path", "body"), ROUTES)


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
        clients.create_task(service.ask("/v1/chat/completions", body))
        await upstream.wait_held(1)
        assert await service.left() == {TOKENS: 5000 - PROMPT - next(iter(sent.values()))}
        upstream.release()
    received = upstream.requests[0].json
    assert {name: received[name] for name in received if name.startswith("max_")} == sent


async def test_without_a_token_budget_nothing_is_added(upstream: FakeUpstream) -> None:
    """Where tokens are not limited, or are not output, the request is not bounded either."""
    async with serve(**at_upstream(upstream, rate_limit_requests=5)) as service:
        for path, body in ROUTES:
            assert (await service.ask(path, body)).is_success
    async with serve(**at_upstream(upstream, rate_limit_tokens=5000)) as service:
        await service.ask("/v1/embeddings", EMBEDDING)
    assert not any("max_tokens" in request.json for request in upstream.requests)


async def test_settled_with_the_usage(upstream: FakeUpstream) -> None:
    """After an answer the budgets have lost what was used, not the thousands reserved."""
    limits = {"rate_limit_tokens": 5000, "client_rate_limit_tokens": 6000}
    used = 0
    async with serve(**at_upstream(upstream, **KEYS, **limits)) as service:
        for path, body in ROUTES * 2:
            assert (await service.ask(path, body, ALICE)).is_success
            used += Script().prompt_tokens if body is EMBEDDING else USED
            now = await service.left("alice")
            assert now == {TOKENS: 5000 - used, "client:alice:tokens": 6000 - used}


UNUSABLE: list[Any] = [
    *(None, 5, "x", {"prompt_tokens": "x"}, {"prompt_tokens": -5, "completion_tokens": -9}),
    *({"prompt_tokens": 1.5}, {"prompt_tokens": 10**400}),
]


@every_route
async def test_unknown_usage_gives_nothing_back(
    upstream: FakeUpstream, path: str, body: dict[str, Any]
) -> None:
    """An answer that ends well with no usage, or one that makes no sense, costs its estimate."""
    cost = 3 if body is EMBEDDING else PROMPT + OUTPUT
    hello = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}
    message = {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}
    async with serve(**at_upstream(upstream, rate_limit_tokens=PLENTY)) as service:
        for number, usage in enumerate(UNUSABLE, start=1):
            stream = ({"choices": [hello]}, {"choices": [], "usage": usage}, b"[DONE]")
            whole = sse({"choices": [message], "data": [{}], "usage": usage}).removeprefix(
                b"data: "
            )
            is_stream = (path, body) in STREAMS
            upstream.script = Script(body=b"".join(map(sse, stream)) if is_stream else whole)
            answer = await service.ask(path, body)
            assert await service.left() == {TOKENS: PLENTY - number * cost}
            assert answer.is_success
            assert "error" not in answer.text
            assert is_stream or answer.json()["usage"] == usage


@pytest.mark.parametrize(("path", "body"), STREAMS)
async def test_client_that_hangs_up_is_charged_what_came(
    upstream: FakeUpstream, path: str, body: dict[str, Any]
) -> None:
    """A client that leaves in mid-stream is charged what had been received by then."""
    upstream.script = Script(tokens=["12345678", "lost"], before_event={2: Action.HOLD})
    async with serve(**at_upstream(upstream, rate_limit_tokens=5000)) as service:
        async with service.client.stream("POST", path, json=body) as response:
            await anext(response.aiter_bytes())
            assert await service.left() == {TOKENS: 5000 - PROMPT - OUTPUT}
        await upstream.wait_aborted(1)
        await service.idle()
        assert await service.left() == {TOKENS: 5000 - PROMPT - 2}


TEXT = Script(tokens=["12345678", "12345678", "lost"], before_event={3: Action.CUT})
CALL = Script(tokens=0, tool_calls=[ToolCall(arguments=["x" * 400, "lost"])])
REASONING = sse({"choices": [{"index": 0, "delta": {"reasoning_content": "x" * 400}}]})


@pytest.mark.parametrize(
    ("path", "body", "script", "least"),
    [
        *((path, body, TEXT, 4) for path, body in STREAMS),
        ("/v1/chat/completions", STREAMED, replace(CALL, before_event={2: Action.CUT}), 100),
        ("/chat", QUESTION, Script(before_event={1: REASONING, 2: Action.CUT}), 100),
    ],
    ids=["text", "text on v1", "tool call", "reasoning"],
)
async def test_broken_answer_is_charged_what_came(
    upstream: FakeUpstream, path: str, body: dict[str, Any], script: Script, least: int
) -> None:
    """An answer that breaks off costs the prompt and what was received: text and all else."""
    upstream.script = script
    async with serve(**at_upstream(upstream, rate_limit_tokens=5000)) as service:
        await service.ask(path, body)
        charged = 5000 - (await service.left())[TOKENS]
    assert PROMPT + least <= charged <= (PROMPT + least) * 1.2


@every_route
async def test_client_that_left_before_the_answer_gets_nothing_back(
    upstream: FakeUpstream, path: str, body: dict[str, Any]
) -> None:
    """What the provider had begun on is unknown when its client leaves: the estimate stays."""
    upstream.script = Script(before_headers=Action.HOLD)
    async with serve(**at_upstream(upstream, rate_limit_tokens=5000)) as service:
        async with service.asking(path, body):
            await upstream.wait_held(1)
        await upstream.wait_aborted(1)
        await service.idle()
        charged = 5000 - (await service.left())[TOKENS]
    assert charged == (3 if body is EMBEDDING else PROMPT + OUTPUT)


async def test_providers_refusal_costs_no_tokens(upstream: FakeUpstream) -> None:
    """What the provider refused used a request, but no tokens."""
    limits = {"rate_limit_tokens": 5000, "rate_limit_requests": 50}
    async with serve(**at_upstream(upstream, **limits)) as service:
        for status in (400, 401, 429, 529):
            upstream.script = Script(status=status, headers={"retry-after": "9"})
            for path, body in ROUTES:
                assert (await service.ask(path, body)).is_error
        assert await service.left() == {TOKENS: 5000, REQUESTS: 50 - 4 * len(ROUTES)}


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
        assert (await service.ask(path, body)).is_success
    assert in_flight == [0, 1, 1]
