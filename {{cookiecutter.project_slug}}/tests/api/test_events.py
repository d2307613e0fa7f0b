"""Events as bytes: valid server-sent events with valid JSON, whatever is said in them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.admission import Answer
from app.api.chat import ChatEvents
from app.api.errors import DEFAULT_RETRY_AFTER
from app.api.openai import OpenAIEvents
from app.concurrency.limiter import QueueFull
from app.llm.base import (
    BrokenStreamError,
    Chunk,
    ProviderRateLimitedError,
    ProviderRejectedError,
    Usage,
)
from app.llm.sse import SSEDecoder

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
