"""Streams: events as bytes, and a relay that ends each of them with an event."""

import asyncio
import json
from collections.abc import AsyncGenerator
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from app.api.admission import Answer
from app.api.chat import ChatEvents
from app.api.openai import OpenAIEvents
from app.api.stream import EventStream
from app.concurrency.limiter import QueueFull
from app.drain import DrainingError
from app.llm.base import (
    BrokenStreamError,
    Chunk,
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


async def pieces(count: int, error: Exception | None = None) -> AsyncGenerator[bytes]:
    """Yield events, then fail, or be silent where `error` is DRAINING."""
    for number in range(count):
        yield b"%d" % number
        yield b""
    if error is DRAINING:
        await asyncio.Event().wait()
    elif error:
        raise error


async def sent(events: AsyncGenerator[bytes], *, interrupt_after: int | None = None) -> list[bytes]:
    """Send a stream to a client that stays, and return the bodies that it received."""
    bodies: list[bytes] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            bodies.append(message["body"])
        if len(bodies) == interrupt_after:
            stream.interrupt(DRAINING)

    def encode(error: Exception) -> bytes:
        return f"error {type(error).__name__}".encode()

    stream = EventStream(events, encode, ping=60, send_timeout=60)
    async with asyncio.timeout(5):
        await stream.open()
        await stream({"type": "http", "method": "POST"}, receive, send)
    return bodies


@pytest.mark.parametrize(
    ("error", "level"),
    [(BrokenStreamError("cut"), "info"), (ZeroDivisionError(), "error"), (TimeoutError(), "error")],
)
async def test_later_failure_is_the_last_event(
    logged: StringIO, error: Exception, level: str
) -> None:
    """An expected one is a line in the log, a defect is an error with its traceback."""
    last = f"error {type(error).__name__}".encode()
    assert await sent(pieces(1, error)) == [b"0", last]
    (line,) = map(json.loads, logged.getvalue().splitlines())
    assert (line["level"], "exception" in line) == (level, level == "error")


@pytest.mark.parametrize("after", [1, 2])
async def test_interruption_ends_the_stream(after: int) -> None:
    """It ends with the reason as its event, whether it waits then or sends."""
    bodies = await sent(pieces(2, DRAINING), interrupt_after=after)
    assert bodies == [*[b"0", b"1"][:after], b"error DrainingError"]


async def test_interruption_before_the_first_event_is_raised() -> None:
    """A request that waits for the first event is refused with the reason."""
    stream = EventStream(pieces(0, DRAINING), lambda _: b"", ping=60, send_timeout=60)
    opening = asyncio.create_task(stream.open())
    await asyncio.sleep(0)
    stream.interrupt(DRAINING)
    with pytest.raises(DrainingError):
        async with asyncio.timeout(5):
            await opening


async def test_closing_closes_the_events() -> None:
    """A stream that is closed half-way has closed its events."""
    closed = False

    async def events() -> AsyncGenerator[bytes]:
        nonlocal closed
        try:
            yield b"event"
        finally:
            closed = True

    stream = EventStream(events(), lambda _: b"", ping=60, send_timeout=60)
    await stream.open()
    await stream.aclose()
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
    chunk = Chunk.of({"choices": [{"delta": {"content": text}}]})
    assert decoded(CHAT.chunks([chunk])) == [("token", {"text": text})] * bool(text)
    assert decoded(OPENAI.chunks([chunk])) == [("message", json.loads(chunk.data))]


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
