"""Events as bytes: valid server-sent events with valid JSON, whatever is said in them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.concurrency.limiter import QueueFull
from app.llm.protocol import (
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


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            QueueFull("8 wait", retry_after=2.5),
            {"type": "queue_full", "message": "8 wait", "retry_after": 2.5},
        ),
        (
            ProviderRateLimitedError("slow down"),
            {
                "type": "provider_rate_limited",
                "message": "slow down",
                "retry_after": DEFAULT_RETRY_AFTER,
            },
        ),
        (
            ProviderRejectedError("too long", code="context_length_exceeded", param="messages"),
            {
                "type": "invalid_request",
                "message": "too long",
                "code": "context_length_exceeded",
                "param": "messages",
            },
        ),
        (BrokenStreamError("cut"), {"type": "provider_broken_stream", "message": "cut"}),
        (
            ZeroDivisionError("secret"),
            {"type": "internal_error", "message": "the service failed to answer"},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors(error: Exception, told: dict[str, object]) -> None:
    """An error is told with type, message and advice; on /v1 with OpenAI's code and param too."""
    assert decoded(chat_events.error(error)) == ("error", told)
    openai = {"param": None, "code": told["type"], **told}
    assert decoded(openai_events.error(error)) == ("message", {"error": openai})
