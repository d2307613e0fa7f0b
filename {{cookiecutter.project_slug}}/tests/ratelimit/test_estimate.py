"""The estimate of a request's tokens counts all that may be used."""

import pytest

from app.ratelimit.estimate import (
    PER_ANSWER,
    PER_ATTACHMENT,
    PER_MESSAGE,
    estimate_text,
    estimate_tokens,
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("x", 1), ("12345678", 2), ("é", 1), ("限流器", 3), ("\ud800", 1), ("\0", 1)],
    ids=ascii,
)
def test_text(text: str, tokens: int) -> None:
    """Four ASCII characters, or three other UTF-8 bytes, are a token; no character is free."""
    assert estimate_text(text) == tokens


@pytest.mark.parametrize(
    ("message", "tokens"),
    [
        ({"role": "assistant", "content": None}, 0),
        ({"role": "user", "content": "12345678"}, 2),
        ({"role": "user", "content": [{"type": "text", "text": "12345678"}]}, 2),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, PER_ATTACHMENT),
        ({"role": "user", "content": "1234", "name": "bob"}, 1 + 4),
        ({"role": "assistant", "tool_calls": [{"id": "1"}]}, 8),
    ],
    ids=["none", "text", "text part", "image", "name", "tool call"],
)
def test_message(message: dict[str, object], tokens: int) -> None:
    """Text, parts, names and tool calls are counted; an attachment by a fixed figure."""
    assert estimate_tokens({"messages": [message]}) == PER_ANSWER + PER_MESSAGE + tokens


@pytest.mark.parametrize(
    ("request_", "tokens"),
    [
        ({"messages": [], "max_tokens": 70}, PER_ANSWER + 70),
        ({"messages": [], "max_tokens": 7, "max_completion_tokens": 90, "n": 3}, PER_ANSWER + 270),
        ({"messages": [], "tools": [{"name": "f"}]}, PER_ANSWER + 7),
        ({"messages": [], "response_format": {"type": "text"}}, PER_ANSWER + 10),
        ({"input": "12345678"}, 2),
        ({"input": ["12345678", "1234"]}, 3),
        ({"input": [1, 2, 3]}, 3),
        ({"input": [[1, 2], [3]]}, 3),
        ({"input": None}, 0),
    ],
)
def test_request(request_: dict[str, object], tokens: int) -> None:
    """The prompt counts, with tools and schema, and all the output; of embeddings the input."""
    assert estimate_tokens(request_) == tokens
