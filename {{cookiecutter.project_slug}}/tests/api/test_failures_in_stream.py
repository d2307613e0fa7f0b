"""What a client is told when an answer breaks off: an error event, never a silent end."""

import json
from typing import Any

import pytest

from tests.service import COMPLETION, Event, at_upstream, serve
from tests.upstream import Action, FakeUpstream, Script, Step, sse

RATE_LIMITED = sse(
    {"error": {"message": "Slow down", "type": "requests", "code": "rate_limit_exceeded"}}
)
FAILURES: list[tuple[Step, str]] = [
    (Action.CUT, "provider_broken_stream"),
    (Action.RESET, "provider_broken_stream"),
    (Action.END, "provider_broken_stream"),
    (b"data: {garbage\n\n", "provider_broken_stream"),
    (Action.HOLD, "provider_timeout"),
    (RATE_LIMITED, "provider_rate_limited"),
]
IDS = ["cut", "reset", "end", "garbage", "hang", "error"]


def patience_with(failure: Step) -> dict[str, float]:
    """Return the deadlines: short ones for what only a deadline ends."""
    return {"llm_timeout_idle": 0.3} if failure is Action.HOLD else {}


def breaking(failure: Step) -> Script:
    """Say a token, wait to be released, say another, and fail."""
    return Script(tokens=3, before_event={2: Action.HOLD, 3: failure})


@pytest.mark.parametrize(("failure", "kind"), FAILURES, ids=IDS)
async def test_chat_ends_with_an_error_event(
    upstream: FakeUpstream, failure: Step, kind: str
) -> None:
    """After the first byte a failure is the last event, and there is no done."""
    upstream.script = breaking(failure)
    settings = at_upstream(upstream, **patience_with(failure))
    async with serve(**settings) as service, service.stream() as events:
        assert await anext(events) == Event("token", {"text": " token0"})
        upstream.release()
        *_, last = [event async for event in events]
        await service.idle()
    assert last.name == "error"
    assert last.data["type"] == kind
    assert last.data["message"]
    await upstream.wait_live(0)


@pytest.mark.parametrize(("failure", "kind"), FAILURES, ids=IDS)
async def test_completion_ends_with_an_error_object(
    upstream: FakeUpstream, failure: Step, kind: str
) -> None:
    """On /v1 the error is the last data, in OpenAI's shape, and no [DONE] follows."""
    upstream.script = breaking(failure)
    body = {**COMPLETION, "stream": True}
    settings = at_upstream(upstream, **patience_with(failure))
    async with (
        serve(**settings) as service,
        service.client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        lines = (line async for line in response.aiter_lines() if line)
        while "token0" not in await anext(lines):
            pass
        upstream.release()
        *_, last = [line async for line in lines]
    error: dict[str, Any] = json.loads(last.removeprefix("data: "))["error"]
    assert error["type"] == kind
    assert error.keys() >= {"message", "code", "param"}


async def test_error_event_says_when_to_come_back(upstream: FakeUpstream) -> None:
    """An error event has the type and retry_after that a refusal would have had."""
    upstream.script = breaking(RATE_LIMITED)
    async with serve(**at_upstream(upstream)) as service, service.stream() as events:
        await anext(events)
        upstream.release()
        *_, last = [event async for event in events]
        upstream.script = Script(status=429)
        refused = await service.client.post("/chat", json=COMPLETION)
    error = refused.json()["error"]
    assert last.data["type"] == error["type"] == "provider_rate_limited"
    assert last.data["retry_after"] == error["retry_after"] > 0


async def test_wait_that_is_too_long_after_queued(upstream: FakeUpstream) -> None:
    """Whoever was told its place and gets no turn is told so by an event."""
    upstream.script = Script(before_event={2: Action.HOLD})
    settings = at_upstream(upstream, llm_max_concurrency=1, llm_queue_timeout=0.05)
    async with serve(**settings) as service, service.stream() as first:
        await anext(first)
        queued, error = await service.chat()
        assert upstream.counts.received == 1
    assert queued == Event("queued", {"position": 1})
    assert error.name == "error"
    assert error.data["type"] == "queue_timeout"
    assert error.data["retry_after"] > 0


async def test_failure_after_queued_is_an_event(upstream: FakeUpstream) -> None:
    """When the response has started with `queued`, the provider's refusal is an event too."""
    upstream.queue.append(Script(before_event={2: Action.HOLD}))
    upstream.script = Script(status=401)
    settings = at_upstream(upstream, llm_max_concurrency=1)
    async with serve(**settings) as service, service.stream() as first:
        await anext(first)
        async with service.stream() as events:
            assert (await anext(events)).name == "queued"
            upstream.release()
            rest = [event async for event in events]
    assert [(event.name, event.data["type"]) for event in rest] == [
        ("error", "provider_authentication")
    ]
