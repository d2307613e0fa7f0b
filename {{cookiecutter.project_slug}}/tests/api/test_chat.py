"""`POST /chat`: the order of its events."""

from contextlib import AsyncExitStack

import pytest

from tests.service import COMPLETION, QUESTION, Event, at_upstream, serve, text_of
from tests.upstream import Action, FakeUpstream, Script, ToolCall

HELD = Script(tokens=2, before_event={2: Action.HOLD})
"""Says its first token, then waits to be released."""


async def test_streams_tokens_usage_and_done(upstream: FakeUpstream) -> None:
    """An answer is its tokens in order, its usage, and done with the provider's reason."""
    upstream.script = Script(tokens=3, finish_reason="length")
    async with serve(**at_upstream(upstream)) as service:
        events = await service.chat()
    assert text_of(events) == " token0 token1 token2"
    assert [event.name for event in events[:-2]] == ["token"] * (len(events) - 2)
    assert events[-2:] == [
        Event("usage", {"prompt_tokens": 7, "completion_tokens": 3}),
        Event("done", {"finish_reason": "length"}),
    ]


async def test_each_token_is_sent_when_it_comes(upstream: FakeUpstream) -> None:
    """A token reaches the client while the provider has not yet said the next one."""
    upstream.script = HELD
    async with serve(**at_upstream(upstream)) as service, service.stream() as events:
        assert await anext(events) == Event("token", {"text": " token0"})
        upstream.release()
        assert await anext(events) == Event("token", {"text": " token1"})


async def test_is_an_event_stream_that_nothing_holds_back(upstream: FakeUpstream) -> None:
    """The response says that it is an event stream, and that no proxy may store or buffer it."""
    async with (
        serve(**at_upstream(upstream)) as service,
        service.client.stream("POST", "/chat", json=QUESTION) as response,
    ):
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize("text", ["ä👋\u2028\x00", "one\ntwo\r\n\r\ndata: x\n\n", '"\\'])
async def test_any_text_arrives_as_it_was_said(upstream: FakeUpstream, text: str) -> None:
    """No text can break out of its event."""
    upstream.script = Script(tokens=[text])
    async with serve(**at_upstream(upstream)) as service:
        assert text_of(await service.chat()) == text


async def test_refusal_is_text(upstream: FakeUpstream) -> None:
    """What a model says when it refuses is shown like any answer."""
    upstream.script = Script(tokens=["I ", "won't"], refusal=True)
    async with serve(**at_upstream(upstream)) as service:
        assert text_of(await service.chat()) == "I won't"


async def test_answer_without_text_is_still_done(upstream: FakeUpstream) -> None:
    """An answer of tool calls alone ends with usage and done."""
    upstream.script = Script(tokens=0, tool_calls=[ToolCall()])
    async with serve(**at_upstream(upstream)) as service:
        events = await service.chat()
    assert [event.name for event in events] == ["usage", "done"]
    assert events[-1].data == {"finish_reason": "tool_calls"}


async def test_passes_the_question_on(upstream: FakeUpstream) -> None:
    """The provider gets the messages and the options that were given, and no others."""
    async with serve(**at_upstream(upstream), llm_model="gpt-own") as service:
        await service.chat(max_tokens=5, temperature=0)
        await service.chat(model="gpt-other")
    first, second = (request.json for request in upstream.requests)
    assert first == {
        "messages": [{"role": "user", "content": "How are you?"}],
        "model": "gpt-own",
        "max_tokens": 5,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert second["model"] == "gpt-other"


async def test_queued_starts_the_response_of_one_who_waits(upstream: FakeUpstream) -> None:
    """Whoever waits is told its place at once; tokens follow when it is its turn."""
    upstream.script = HELD
    settings = at_upstream(upstream, llm_max_concurrency=1)
    async with serve(**settings) as service, service.stream() as first:
        await anext(first)
        async with service.stream() as events:
            assert await anext(events) == Event("queued", {"position": 1})
            assert upstream.counts.received == 1
            upstream.script = Script()
            upstream.release()
            rest = [event.name async for event in events]
    assert set(rest[:-2]) == {"token"}
    assert rest[-2:] == ["usage", "done"]


async def test_who_waits_sees_the_queue_move(upstream: FakeUpstream) -> None:
    """Each in the queue has its own place, and is told when it has moved up."""
    upstream.script = HELD
    settings = at_upstream(upstream, llm_max_concurrency=1)
    async with serve(**settings) as service, AsyncExitStack() as clients:
        streams = []
        for place in range(3):
            streams.append(await clients.enter_async_context(service.stream()))
            first = await anext(streams[-1])
            assert first.data == ({"position": place} if place else {"text": " token0"})
        upstream.release()
        assert (await anext(streams[1])).name == "token"
        assert await anext(streams[2]) == Event("queued", {"position": 1})


@pytest.mark.parametrize(
    ("path", "body", "end"),
    [
        ("/chat", QUESTION, b"event: done"),
        ("/v1/chat/completions", {**COMPLETION, "stream": True}, b"data: [DONE]"),
    ],
)
async def test_pings_while_the_provider_is_silent(
    upstream: FakeUpstream, path: str, body: dict[str, object], end: bytes
) -> None:
    """Comments keep proxies from cutting a stream while the provider is silent."""
    upstream.script = HELD
    async with (
        serve(**at_upstream(upstream, ping_interval=0.02)) as service,
        service.client.stream("POST", path, json=body) as response,
    ):
        pieces = response.aiter_bytes()
        while b"token0" not in await anext(pieces):
            pass
        assert [await anext(pieces) for _ in range(2)] == [b": ping\n\n"] * 2
        upstream.release()
        rest = b"".join([piece async for piece in pieces])
    assert b"token1" in rest
    assert end in rest
