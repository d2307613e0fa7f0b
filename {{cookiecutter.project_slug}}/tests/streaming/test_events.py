"""Events as bytes: valid server-sent events with valid JSON, whatever is said in them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.concurrency.limiter import QueueFull
from app.llm.base import (
    BrokenStreamError,
    Chunk,
    ProviderRateLimitedError,
    ProviderRejectedError,
    Usage,
)
from app.llm.sse import SSEDecoder
from app.streaming import chat_events, openai_events
from app.streaming.describe import DEFAULT_RETRY_AFTER


def decoded(event: bytes) -> tuple[str, object]:
    """Read back the one event in these bytes."""
    ((name, data),) = SSEDecoder().feed(event)
    return name, json.loads(data)


def test_chat_events() -> None:
    """Each event of /chat has its name and its fields."""
    assert decoded(chat_events.queued(3)) == ("queued", {"position": 3})
    assert decoded(chat_events.token("Hi")) == ("token", {"text": "Hi"})
    assert decoded(chat_events.done("stop")) == ("done", {"finish_reason": "stop"})
    assert decoded(chat_events.usage(Usage(prompt_tokens=1, completion_tokens=2))) == (
        "usage",
        {"prompt_tokens": 1, "completion_tokens": 2},
    )


@given(st.text())
def test_any_text_survives(text: str) -> None:
    """No text can end an event early or change another."""
    assert decoded(chat_events.token(text)) == ("token", {"text": text})
    body = {"choices": [{"delta": {"content": text}}]}
    assert decoded(openai_events.chunk(Chunk(body))) == ("message", body)


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
    assert decoded(chat_events.error(error)) == ("error", described)
    body = {"param": None, **described, **at_openai}
    assert decoded(openai_events.error(error)) == ("message", {"error": body})
