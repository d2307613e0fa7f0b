"""The embedded provider, on a virtual clock."""

import asyncio
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from app.llm.base import JSONObject, ProviderRejectedError, Usage, usage_of
from app.llm.echo import MAX_TEXT, EchoProvider

from . import ask, text_of


def asks(content: object, **fields: Any) -> JSONObject:
    """Make a request with this last message."""
    first = {"role": "user", "content": "an earlier question"}
    last = {"role": "user", "content": content}
    return {"messages": [first, last, {"role": "assistant", "content": "So?"}], **fields}


async def test_repeats_the_last_user_message_at_its_pace() -> None:
    """A word is a token; the first takes the delay, each other one the interval."""
    echo = EchoProvider(first_token_delay=3, token_interval=2)
    clock = asyncio.get_running_loop().time
    async with echo.stream(asks("How are you?")) as answer:
        received = [(clock(), text_of(batch)) async for batch in answer]
    assert received == [(3.0, "How"), (5.0, " are"), (7.0, " you?"), (7.0, "")]


@pytest.mark.parametrize(("made", "text"), [("Made up.", "Made up."), (None, "How are you?")])
async def test_the_answer_can_be_made(made: str | None, text: str) -> None:
    """What `answer` makes of the messages is the answer; without it the question is repeated."""
    echo = EchoProvider(answer=lambda messages: made if messages else "no messages")
    assert text_of(await ask(echo, asks("How are you?"))) == text


async def test_an_answer_has_openais_shape() -> None:
    """OpenAI's strict types read it, with usage last; it is the same each time."""
    request = asks("a b c", model="m")
    chunks = await ask(EchoProvider(), request)
    for chunk in chunks:
        assert ChatCompletionChunk.model_validate_json(chunk.data, strict=True).model == "m"
    assert chunks[-1].usage == Usage(prompt_tokens=7, completion_tokens=3)
    assert await ask(EchoProvider(), request) == chunks
    with pytest.raises(ProviderRejectedError, match="no embeddings"):
        await EchoProvider().embed({"input": "x"})


@settings(max_examples=25)
@given(st.text(max_size=40), st.none() | st.integers(1, 9), st.none() | st.integers(-1, 9))
async def test_plain_and_streamed_are_the_same_answer(
    text: str, token_count: int | None, max_tokens: int | None
) -> None:
    """Text, finish reason, usage and duration are the same in one piece as in many."""
    clock = asyncio.get_running_loop().time
    echo = EchoProvider(first_token_delay=3, token_interval=2, token_count=token_count)
    request = asks(text, max_tokens=max_tokens)
    started = clock()
    chunks = await ask(echo, request)
    between = clock()
    completion = await echo.complete(request)
    assert clock() - between == between - started
    [choice] = completion["choices"]
    assert choice["message"]["content"] == text_of(chunks)
    assert choice["finish_reason"] == chunks[-2].finish_reason
    assert usage_of(completion) == chunks[-1].usage


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}], "one two"),
        ([{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "a"}], "a"),
        ([{"type": "text", "text": None}, "x", 1], "…"),
        ("  ", "…"),
        (None, "…"),
    ],
)
async def test_any_content_has_an_answer(content: object, text: str) -> None:
    """Parts are joined, what is not text is skipped, and silence is answered too."""
    assert text_of(await ask(EchoProvider(), asks(content))).strip() == text


@pytest.mark.parametrize("content", [" " * 20_000, [{"text": ""}] * 20_000, "word " * 60_000])
async def test_the_work_is_bounded(content: object) -> None:
    """No message is so long that the answer to it would stop the service."""
    echo = EchoProvider(first_token_delay=0, token_interval=0)
    started = time.process_time()
    answer = await echo.complete(asks(content))
    assert time.process_time() - started < 1, "some milliseconds"
    assert len(answer["choices"][0]["message"]["content"]) <= MAX_TEXT


@pytest.mark.parametrize(
    ("token_count", "fields", "text", "reason"),
    [
        (2, {}, " one two", "stop"),
        (5, {}, " one two three one two", "stop"),
        (None, {"max_tokens": 2}, "one two", "length"),
        (None, {"max_completion_tokens": 2}, "one two", "length"),
        (None, {"max_tokens": "2"}, "one two three", "stop"),
    ],
)
async def test_the_length_can_be_set(
    token_count: int | None, fields: JSONObject, text: str, reason: str
) -> None:
    """A fixed count repeats or cuts the message; at its own limit the answer ends by `length`."""
    chunks = await ask(EchoProvider(token_count=token_count), asks("one two three", **fields))
    assert (text_of(chunks), chunks[-2].finish_reason) == (text, reason)
