"""The embedded provider, on a virtual clock."""

import asyncio
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.llm.base import JSONObject, ProviderRejectedError, Usage, usage_of
from app.llm.echo import EMBEDDING_DIMENSIONS, MAX_INPUTS, MAX_TEXT, EchoProvider

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
    """Role first, finish reason and usage last, one id throughout; the same each time."""
    request = asks("a b c", model="m")
    chunks = await ask(EchoProvider(), request)
    assert chunks[0].body["choices"][0]["delta"] == {"role": "assistant", "content": "a"}
    assert chunks[-2].finish_reason == "stop"
    assert chunks[-1].usage == Usage(prompt_tokens=7, completion_tokens=3)
    assert {(chunk.body["id"], chunk.body["model"]) for chunk in chunks} == {
        (chunks[0].body["id"], "m")
    }
    again = await ask(EchoProvider(), request)
    assert [chunk.body for chunk in again] == [chunk.body for chunk in chunks]


@settings(max_examples=25)
@given(st.text(max_size=40), st.none() | st.integers(1, 9), st.none() | st.integers(1, 9))
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
        (7, "…"),
    ],
)
async def test_any_content_has_an_answer(content: object, text: str) -> None:
    """Parts are joined, what is not text is skipped, and silence is answered too."""
    assert text_of(await ask(EchoProvider(), asks(content))).strip() == text


@pytest.mark.parametrize("count", [1, MAX_TEXT])
async def test_of_a_long_message_the_beginning_is_repeated(count: int) -> None:
    """Text over the limit is cut, in one part or many, in the answer and in the usage."""
    parts = [{"type": "text", "text": "word " * (MAX_TEXT // count)}] * count
    answer = await EchoProvider().complete({"messages": [{"role": "user", "content": parts}]})
    content = answer["choices"][0]["message"]["content"]
    assert len(content) <= MAX_TEXT
    assert answer["usage"]["prompt_tokens"] == len(content.split())


@pytest.mark.parametrize("content", [" " * 20_000, [{"text": ""}] * 20_000])
async def test_the_work_grows_with_the_length_and_not_faster(content: object) -> None:
    """Blanks, and empty parts, take no longer than words do, but for a factor."""

    async def cpu_seconds(content: object) -> float:
        started = time.process_time()
        await EchoProvider(first_token_delay=0, token_interval=0).complete(asks(content))
        return time.process_time() - started

    assert await cpu_seconds(content) < 50 * await cpu_seconds("word " * 4_000)


@pytest.mark.parametrize(
    ("token_count", "fields", "text", "reason"),
    [
        (2, {}, " one two", "stop"),
        (5, {}, " one two three one two", "stop"),
        (None, {"max_tokens": 2}, "one two", "length"),
        (None, {"max_completion_tokens": 2}, "one two", "length"),
        (None, {"max_tokens": 3}, "one two three", "stop"),
        (None, {"max_tokens": "2"}, "one two three", "stop"),
    ],
)
async def test_the_length_can_be_set(
    token_count: int | None, fields: JSONObject, text: str, reason: str
) -> None:
    """A fixed count repeats or cuts the message; at its own limit the answer ends by `length`."""
    chunks = await ask(EchoProvider(token_count=token_count), asks("one two three", **fields))
    assert (text_of(chunks), chunks[-2].finish_reason) == (text, reason)


async def test_embeddings_are_alike_where_texts_share_words() -> None:
    """Vectors have length one, and are nearer the more words are shared."""
    texts = ["the cat sat", "The cat SAT!", "the cat ran", "quarterly revenue report"]
    answer = await EchoProvider().embed({"input": texts, "model": "e"})
    vectors = [item["embedding"] for item in answer["data"]]
    same, equal, near, far = (
        sum(x * y for x, y in zip(vectors[0], v, strict=True)) for v in vectors
    )
    assert (same, equal) == (pytest.approx(1.0), pytest.approx(1.0))
    assert far < near < same
    assert {len(vector) for vector in vectors} == {EMBEDDING_DIMENSIONS}
    assert answer["usage"]["prompt_tokens"] == 12


@pytest.mark.parametrize(
    ("inputs", "count"),
    [("one text", 1), ("", 1), (["one", "two"], 2), ([1, 2, 3], 1), ([[1], [2, 3]], 2)],
)
async def test_every_input_has_one_embedding(inputs: object, count: int) -> None:
    """A text or a list of token numbers is one input; a list of these is as many."""
    answer = await EchoProvider().embed({"input": inputs})
    assert [item["index"] for item in answer["data"]] == list(range(count))


@pytest.mark.parametrize("inputs", [[], ["x"] * (MAX_INPUTS + 1), "x" * (MAX_TEXT + 1)])
async def test_nothing_and_too_much_cannot_be_embedded(inputs: object) -> None:
    """An empty list is refused, as at OpenAI, and so is what would take long to compute."""
    with pytest.raises(ProviderRejectedError, match=f"1 to {MAX_INPUTS} texts") as caught:
        await EchoProvider().embed({"input": inputs})
    assert caught.value.param == "input"
