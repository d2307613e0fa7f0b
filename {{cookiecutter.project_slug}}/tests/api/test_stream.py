"""Streams: events as bytes, and a relay that ends each of them with an event."""

import asyncio
import json
from collections.abc import AsyncGenerator
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.admission import Answer
from app.api.chat import ChatEvents
from app.api.errors import DEFAULT_RETRY_AFTER
from app.api.openai import OpenAIEvents
from app.api.stream import Relay
from app.concurrency.limiter import QueueFull
from app.drain import DrainingError
from app.llm.base import (
    BrokenStreamError,
    Chunk,
    ProviderRateLimitedError,
    ProviderRejectedError,
    Usage,
)
from app.llm.sse import SSEDecoder
from app.telemetry.logs import configure_logging

DRAINING = DrainingError("stopping")


@pytest.fixture(autouse=True)
def logged() -> StringIO:
    """Log into a buffer."""
    stream = StringIO()
    configure_logging("INFO", stream)
    return stream


def encode(error: Exception) -> bytes:
    """Encode an error as its class's name."""
    return f"error {type(error).__name__}".encode()


def relay_of(events: AsyncGenerator[bytes]) -> Relay:
    """Relay these events."""
    return Relay(events, encode)


async def failing_after(count: int, error: Exception) -> AsyncGenerator[bytes]:
    """Say something so many times, then fail."""
    for _ in range(count):
        yield b"event"
    raise error


async def silent_after(count: int) -> AsyncGenerator[bytes]:
    """Say something so many times, then nothing any more."""
    for _ in range(count):
        yield b"event"
    await asyncio.Event().wait()


async def whole(count: int) -> AsyncGenerator[bytes]:
    """Say something so many times."""
    for _ in range(count):
        yield b"event"


async def test_passes_events_on() -> None:
    """What comes in goes out, once and in order."""
    relay = relay_of(whole(3))
    await relay.open()
    assert [event async for event in relay] == [b"event"] * 3


async def test_opening_waits_for_the_first_event_only() -> None:
    """The relay is open as soon as there is one event to send."""
    relay = relay_of(silent_after(1))
    await relay.open()
    assert await anext(relay) == b"event"


async def test_failure_before_the_first_event_is_raised() -> None:
    """What fails until then can still have a status of its own."""
    relay = relay_of(failing_after(0, BrokenStreamError("cut")))
    with pytest.raises(BrokenStreamError):
        await relay.open()


@pytest.mark.parametrize("error", [BrokenStreamError("cut"), ZeroDivisionError(), TimeoutError()])
async def test_failure_after_that_is_the_last_event(error: Exception) -> None:
    """Whatever it is, foreseen or not, it becomes the event that ends the stream."""
    relay = relay_of(failing_after(1, error))
    await relay.open()
    assert await anext(relay) == b"event"
    assert await anext(relay) == f"error {type(error).__name__}".encode()
    with pytest.raises(StopAsyncIteration):
        await anext(relay)


@pytest.mark.parametrize(
    ("error", "level"), [(BrokenStreamError("cut"), "info"), (ZeroDivisionError(), "error")]
)
async def test_only_a_defect_is_an_error_in_the_log(
    logged: StringIO, error: Exception, level: str
) -> None:
    """What was foreseen is a line; what was not is an error with its traceback."""
    relay = relay_of(failing_after(1, error))
    await relay.open()
    assert [await anext(relay) for _ in range(2)]
    (line,) = map(json.loads, logged.getvalue().splitlines())
    assert (line["level"], "exception" in line) == (level, level == "error")


async def test_interruption_ends_a_wait() -> None:
    """A stream that waits when it is interrupted ends at once, with the reason as its event."""
    relay = relay_of(silent_after(1))
    await relay.open()
    await anext(relay)
    rest = asyncio.create_task(anext(relay))
    await asyncio.sleep(0)
    relay.interrupt(DRAINING)
    async with asyncio.timeout(5):
        assert await rest == b"error DrainingError"
    with pytest.raises(StopAsyncIteration):
        await anext(relay)


async def test_interruption_while_the_client_reads() -> None:
    """A stream that is being sent when it is interrupted ends with the next event."""
    relay = relay_of(whole(3))
    await relay.open()
    assert await anext(relay) == b"event"
    relay.interrupt(DRAINING)
    assert await anext(relay) == b"error DrainingError"
    with pytest.raises(StopAsyncIteration):
        await anext(relay)


async def test_interruption_before_the_first_event_is_raised() -> None:
    """Who still waits for the first event is refused with the reason."""
    relay = relay_of(silent_after(0))
    opening = asyncio.create_task(relay.open())
    await asyncio.sleep(0)
    relay.interrupt(DRAINING)
    with pytest.raises(DrainingError):
        async with asyncio.timeout(5):
            await opening


async def test_cancellation_is_no_failure() -> None:
    """A consumer that is cancelled, as when its client goes, is cancelled: no event is made."""
    relay = relay_of(silent_after(1))
    await relay.open()
    await anext(relay)
    rest = asyncio.create_task(anext(relay))
    await asyncio.sleep(0)
    rest.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rest


async def test_closing_closes_the_events() -> None:
    """A relay that is closed half-way has closed what it relays."""
    closed = False

    async def events() -> AsyncGenerator[bytes]:
        nonlocal closed
        try:
            yield b"event"
        finally:
            closed = True

    relay = relay_of(events())
    await relay.open()
    await relay.aclose()
    assert closed


CHAT, OPENAI = ChatEvents(), OpenAIEvents(with_usage=True)


def decoded(events: bytes) -> list[tuple[str, object]]:
    """Read back the events in these bytes."""
    return [(name, json.loads(data)) for name, data in SSEDecoder().feed(events)]


def test_chat_events() -> None:
    """Each event of /chat has its name and its fields."""
    assert decoded(CHAT.queued(3)) == [("queued", {"position": 3})]
    assert decoded(CHAT.chunks([])) == []
    assert decoded(CHAT.end(Answer())) == [("done", {"finish_reason": "stop"})]
    assert decoded(CHAT.end(Answer(finish_reason="length", usage=Usage(1, 2)))) == [
        ("usage", {"prompt_tokens": 1, "completion_tokens": 2}),
        ("done", {"finish_reason": "length"}),
    ]


@given(st.text())
def test_any_text_survives(text: str) -> None:
    """No text can end an event early or change another."""
    chunk = Chunk({"choices": [{"delta": {"content": text}}]})
    assert decoded(CHAT.chunks([chunk])) == [("token", {"text": text})] * bool(text)
    assert decoded(OPENAI.chunks([chunk])) == [("message", chunk.body)]


INVALID = {"type": "invalid_request_error"}


@pytest.mark.parametrize(
    ("error", "described", "at_openai"),
    [
        (
            QueueFull("8 wait", retry_after=2.5),
            {"type": "queue_full", "message": "8 wait", "retry_after": 2.5},
            {"code": "queue_full"},
        ),
        (
            ProviderRateLimitedError("slow down", code="requests"),
            {
                "type": "provider_rate_limited",
                "message": "slow down",
                "retry_after": DEFAULT_RETRY_AFTER,
                "code": "requests",
            },
            {"code": "rate_limit_exceeded"},
        ),
        (
            ProviderRejectedError("too long", code="context_length_exceeded", param="messages"),
            {
                "type": "invalid_request",
                "message": "too long",
                "code": "context_length_exceeded",
                "param": "messages",
            },
            INVALID,
        ),
        (
            ProviderRejectedError("odd"),
            {"type": "invalid_request", "message": "odd"},
            {**INVALID, "code": None},
        ),
        (
            BrokenStreamError("cut"),
            {"type": "provider_broken_stream", "message": "cut"},
            {"code": "provider_broken_stream"},
        ),
        (
            ZeroDivisionError("secret"),
            {"type": "internal_error", "message": "the service failed to answer"},
            {"code": "internal_error"},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors(
    error: Exception, described: dict[str, object], at_openai: dict[str, object]
) -> None:
    """An error is an event with type, message and advice; on `/v1` in OpenAI's words."""
    assert decoded(CHAT.error(error)) == [("error", described)]
    body = {"param": None, **described, **at_openai}
    assert decoded(OPENAI.error(error)) == [("message", {"error": body})]
