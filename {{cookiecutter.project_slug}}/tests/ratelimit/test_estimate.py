"""The estimate of a request's tokens is near the truth, and counts all that may be used."""

# ruff: noqa: RUF001 -- Chinese prose has Chinese punctuation

import pytest

from app.ratelimit.estimate import (
    PER_ANSWER,
    PER_ATTACHMENT,
    PER_MESSAGE,
    estimate_prompt,
    estimate_text,
    estimate_tokens,
)

ENGLISH = """\
A rate limiter admits a request when every budget that it touches has enough left, and tells the
others when to come back. It should be exact: whoever waits that long must be let in, and whoever
comes earlier must not. Most of the difficulty lies in what happens between the two, when a
process dies, a clock is set back, or an answer is lost on its way home."""
CHINESE = """\
限流器只有在请求所涉及的每一个预算都有足够余量时才会放行，否则会告诉调用者什么时候再来。
它必须是精确的：等够时间的人一定能进来，提前来的人一定不能进来。真正的困难在于两者之间发生的事情：
进程崩溃、时钟被调回，或者答复在返回的途中丢失。"""
CODE = """\
def wait(self, cost: int, limit: int, now: int) -> int:
    excess = self.used + cost - limit
    for bucket, used in self._buckets.items() if excess > 0 else ():
        excess -= used
        if excess <= 0:
            return self._leaves(bucket) - now
    return 0
"""


@pytest.mark.parametrize(
    ("text", "o200k_base", "cl100k_base"),
    [(ENGLISH, 82, 83), (CHINESE, 91, 132), (CODE, 77, 76)],
    ids=["english", "chinese", "code"],
)
def test_estimate_is_near_the_truth(text: str, o200k_base: int, cl100k_base: int) -> None:
    """The estimate is within a third of what tiktoken counted for these texts."""
    for real in (o200k_base, cl100k_base):
        assert 0.85 <= estimate_text(text) / real <= 1.33


@pytest.mark.parametrize("text", ["x", "é", "\ud800", "👩‍🔬", "\0"])
def test_any_character_costs_something(text: str) -> None:
    """No text is free, and none breaks the estimate."""
    assert estimate_text(text) >= 1
    assert estimate_text("") == 0


def test_output_counts_with_the_prompt() -> None:
    """A reservation holds the prompt and all the output that the request allows."""
    request = {"messages": [{"role": "user", "content": "12345678"}]}
    prompt = PER_ANSWER + PER_MESSAGE + 2
    assert estimate_tokens(request) == prompt
    assert estimate_tokens(request | {"max_tokens": 70}) == prompt + 70
    newer = request | {"max_tokens": 70, "max_completion_tokens": 90, "n": 3}
    assert estimate_tokens(newer) == prompt + 270


@pytest.mark.parametrize(
    ("texts", "tokens"),
    [("12345678", 2), (["12345678", "1234"], 3), ([1, 2, 3], 3), ([[1, 2], [3]], 3), (None, 0)],
)
def test_embeddings_cost_their_input(texts: object, tokens: int) -> None:
    """The input of an embeddings request is a text, a list of tokens, or a list of either."""
    assert estimate_tokens({"input": texts}) == tokens


@pytest.mark.parametrize(
    ("message", "tokens"),
    [
        ({"role": "assistant", "content": None}, 0),
        ({"role": "user", "content": [{"type": "text", "text": "12345678"}]}, 2),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, PER_ATTACHMENT),
        ({"role": "user", "content": "1234", "name": "bob"}, 1 + 4),
        ({"role": "assistant", "tool_calls": [{"id": "1"}]}, 8),
    ],
    ids=["none", "text part", "image", "name", "tool call"],
)
def test_every_part_of_a_message_counts(message: dict[str, object], tokens: int) -> None:
    """Text, parts, names and tool calls are counted; an attachment by a fixed figure."""
    assert estimate_prompt({"messages": [message]}) == PER_ANSWER + PER_MESSAGE + tokens


def test_tools_and_schemas_count() -> None:
    """Definitions of tools and of the answer's schema are part of the prompt."""
    request = {"messages": [], "tools": [{"name": "f"}], "response_format": {"type": "json_object"}}
    assert estimate_prompt(request) - PER_ANSWER == 18
