"""The provider without a provider, on a virtual clock."""

import asyncio
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.llm.base import JSONObject, ProviderRejectedError, Usage, usage_of
from app.llm.echo import EMBEDDING_DIMENSIONS, MAX_INPUTS, MAX_TEXT, EchoProvider

from .asking import ask, text_of


def asks(content: object, **fields: Any) -> JSONObject:
    """Make a request with this last message."""
    return {"messages": [{"role": "user", "content": content}], **fields}


async def test_repeats_the_last_user_message_at_its_pace() -> None:
    """A word is a token; the first takes the delay, each other one the interval."""
    echo = EchoProvider(first_token_delay=3, token_interval=2)
    clock = asyncio.get_running_loop().time
    async with echo.stream(asks("How are you?")) as answer:
        heard = [(clock(), text_of(batch)) async for batch in answer]
    assert heard == [(3.0, "How"), (5.0, " are"), (7.0, " you?"), (7.0, "")]


@pytest.mark.parametrize(("made", "said"), [("Said so.", "Said so."), (None, "How are you?")])
async def test_says_what_it_is_told_to_say(made: str | None, said: str) -> None:
    """Where `answer` makes something of the messages that is the answer, else it is repeated."""
    echo = EchoProvider(answer=lambda messages: made if messages else "no messages")
    assert "".join(map(text_of, [await ask(echo, asks("How are you?"))])) == said


async def test_an_answer_has_openais_shape() -> None:
    """Role first, finish reason and usage last, one id throughout; the same each time."""
    request = asks("a b c", model="m")
    chunks = await ask(EchoProvider(), request)
    assert chunks[0].body["choices"][0]["delta"] == {"role": "assistant", "content": "a"}
    assert chunks[-2].finish_reason == "stop"
    assert chunks[-1].usage == Usage(prompt_tokens=3, completion_tokens=3)
    assert {(chunk.body["id"], chunk.body["model"]) for chunk in chunks} == {
        (chunks[0].body["id"], "m")
    }
    assert [chunk.body for chunk in await ask(EchoProvider(), request)] == [
        chunk.body for chunk in chunks
    ]


@given(st.text(max_size=40), st.none() | st.integers(1, 9), st.none() | st.integers(1, 9))
async def test_plain_and_streamed_are_the_same_answer(
    text: str, token_count: int | None, max_tokens: int | None
) -> None:
    """Text, finish reason, usage and duration are the same in one piece as in many."""
    echo = EchoProvider(token_count=token_count)
    request = asks(text, max_tokens=max_tokens)
    chunks = await ask(echo, request)
    completion = await echo.complete(request)
    [choice] = completion["choices"]
    assert choice["message"]["content"] == text_of(chunks)
    assert choice["finish_reason"] == chunks[-2].finish_reason
    assert usage_of(completion) == chunks[-1].usage


async def test_a_plain_answer_takes_as_long_as_its_stream() -> None:
    """Whether it streams or not, the delay and the interval after each further token pass."""
    await EchoProvider(first_token_delay=3, token_interval=2).complete(asks("How are you?"))
    assert asyncio.get_running_loop().time() == 7.0


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("one two", "one two"),
        ([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}], "one two"),
        ([{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "a"}], "a"),
        ([{"type": "text", "text": None}, "x", 1], "…"),
        ("", "…"),
        ("  ", "…"),
        (None, "…"),
        (7, "…"),
    ],
)
async def test_any_content_has_an_answer(content: object, text: str) -> None:
    """Parts are joined, what is not text is passed over, and silence is answered too."""
    assert text_of(await ask(EchoProvider(), asks(content))).strip() == text


@pytest.mark.parametrize("parts", [1, MAX_TEXT])
async def test_of_a_long_message_the_beginning_is_repeated(parts: int) -> None:
    """Text over the limit is cut, whether in one part or many, in the answer and in the usage."""
    content = [{"type": "text", "text": "word " * (MAX_TEXT // parts)}] * parts
    answer = await EchoProvider().complete(asks(content))
    said = answer["choices"][0]["message"]["content"]
    assert len(said) <= MAX_TEXT
    assert answer["usage"]["prompt_tokens"] == len(said.split())


@pytest.mark.parametrize("content", [" " * 20_000, [{"text": ""}] * 20_000])
async def test_the_work_grows_with_the_length_and_not_faster(content: object) -> None:
    """Blanks, and empty parts, take no longer than words do, but for a factor."""

    async def cpu_seconds(content: object) -> float:
        started = time.process_time()
        await EchoProvider(first_token_delay=0, token_interval=0).complete(asks(content))
        return time.process_time() - started

    assert await cpu_seconds(content) < 50 * await cpu_seconds("word " * 4_000)


async def test_answers_the_user_and_nobody_else() -> None:
    """The last message of the role `user` counts, not what was said after or before it."""
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "first"},
        {"role": "user", "content": "second"},
        {"role": "assistant", "content": "third"},
    ]
    assert text_of(await ask(EchoProvider(), {"messages": messages})) == "second"
    assert text_of(await ask(EchoProvider(), {"messages": messages[:1]})) == "…"


@pytest.mark.parametrize("count", [1, 2, 3, 7])
async def test_the_token_count_can_be_fixed(count: int) -> None:
    """A short message is repeated and a long one cut, so that load tests know what they get."""
    chunks = await ask(EchoProvider(token_count=count), asks("one two three"))
    assert len(text_of(chunks).split()) == count
    assert chunks[-1].usage == Usage(3, count)


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_a_limit_of_tokens_holds(field: str) -> None:
    """At the limit the answer ends with the reason `length`; an answer within it is whole."""
    cut = await ask(EchoProvider(), asks("one two three", **{field: 2}))
    assert (text_of(cut), cut[-2].finish_reason) == ("one two", "length")
    whole = await ask(EchoProvider(), asks("one two three", **{field: 3}))
    assert (text_of(whole), whole[-2].finish_reason) == ("one two three", "stop")
    odd = await ask(EchoProvider(), asks("one two three", **{field: "2"}))
    assert text_of(odd) == "one two three"


async def test_embeddings_are_alike_where_texts_share_words() -> None:
    """Vectors have length one, are the same each time, and are nearer the more words are shared."""
    texts = ["the cat sat", "The cat SAT!", "the cat ran", "quarterly revenue report"]
    answer = await EchoProvider().embed({"input": texts, "model": "e"})
    vectors = [item["embedding"] for item in answer["data"]]
    same, equal, near, far = (
        sum(x * y for x, y in zip(vectors[0], v, strict=True)) for v in vectors
    )
    assert same == pytest.approx(1.0)
    assert equal == pytest.approx(1.0)
    assert far < near < same
    assert {len(vector) for vector in vectors} == {EMBEDDING_DIMENSIONS}
    assert answer["usage"]["prompt_tokens"] == 12
    assert answer == await EchoProvider().embed({"input": texts, "model": "e"})


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


async def test_has_one_model() -> None:
    """The model is called what answers name where a request named none."""
    [model] = await EchoProvider().models()
    assert model["id"] == (await EchoProvider().complete(asks("x")))["model"] == "echo"


async def test_cancelling_ends_the_answer() -> None:
    """A caller that leaves is not answered further."""
    task = asyncio.create_task(ask(EchoProvider(first_token_delay=60), asks("x")))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.get_running_loop().time() == 1.0
