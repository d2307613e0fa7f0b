"""What is read of a chunk and of a usage, whatever a provider puts there."""

from typing import Any

import pytest

from app.llm.base import MOST_TOKENS, Chunk, Usage, usage_of

THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}


def part(text: object) -> dict[str, object]:
    """Make a part of text, as a list of content has them."""
    return {"type": "text", "text": text}


def chunk(delta: object, finish_reason: object = None) -> Chunk:
    """Make a chunk that says this."""
    return Chunk({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        (None, ""),
        ({}, ""),
        ({"content": None}, ""),
        ({"content": "Hello"}, "Hello"),
        ({"content": None, "refusal": "No."}, "No."),
        ({"content": "", "refusal": "No."}, "No."),
        ({"content": [part("Hel"), part("lo")]}, "Hello"),
        ({"content": [THINKING]}, ""),
        ({"content": [{"type": "reasoning", "text": "Hm."}]}, ""),
        ({"content": [THINKING, part("Hello")]}, "Hello"),
        ({"content": [part(None), part(5), part(["x"]), {"type": "text"}, part("Hi")]}, "Hi"),
        ({"content": ["x", 5, None, {}]}, ""),
        ({"content": 5}, ""),
        ({"content": True}, ""),
        ({"content": {"a": 1}}, ""),
        ({"refusal": {"a": 1}}, ""),
        ({"content": 5, "refusal": "No."}, "No."),
    ],
)
def test_text_is_always_a_string(delta: object, text: str) -> None:
    """A string is itself, parts are those of text put together, and anything else adds none."""
    assert chunk(delta).text == text


@pytest.mark.parametrize(
    ("said", "reason"), [("stop", "stop"), (None, None), (5, None), (["stop"], None)]
)
def test_finish_reason_is_a_string_or_none(said: object, reason: str | None) -> None:
    """What is no word is no reason."""
    assert chunk({}, said).finish_reason == reason


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 5}, Usage(7, 5)),
        ({"prompt_tokens": 7, "completion_tokens": 5, "cost": "free"}, Usage(7, 5)),
        ({"prompt_tokens": 7, "total_tokens": 7}, Usage(7, 0)),
        ({"prompt_tokens": 7, "completion_tokens": None}, Usage(7, 0)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(0, 0)),
        ({"prompt_tokens": MOST_TOKENS}, Usage(MOST_TOKENS, 0)),
    ],
)
def test_usage_is_what_is_counted(usage: object, counted: Usage) -> None:
    """Both counts are read, and one that is left out is zero."""
    assert usage_of({"usage": usage}) == counted


@pytest.mark.parametrize("usage", [None, {}, [], 0, 5, "x", True, ["prompt_tokens"]])
def test_usage_that_is_no_object_is_unknown(usage: object) -> None:
    """Nothing is known where nothing is counted."""
    assert usage_of({"usage": usage}) is None
    assert usage_of({}) is None


@pytest.mark.parametrize("odd", ["x", "7", -1, 1.5, 7.0, 1e308, True, [], {}, MOST_TOKENS + 1])
def test_count_that_makes_no_sense_makes_usage_unknown(odd: Any) -> None:
    """Half of a usage is none: what cost too little on paper would be given back."""
    assert usage_of({"usage": {"prompt_tokens": odd, "completion_tokens": 5}}) is None
    assert usage_of({"usage": {"prompt_tokens": 7, "completion_tokens": odd}}) is None
