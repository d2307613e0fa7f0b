"""OpenAI's wire format over a real socket: what goes out, and what comes back."""

import json

import httpx
import pytest

from app.llm.base import (
    BrokenStreamError,
    ProviderAuthenticationError,
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
    ProviderUnavailableError,
    Usage,
    usage_of,
)
from app.llm.openai import OpenAIProvider
from tests.upstream import Action, FakeUpstream, Script, ToolCall, sse

from .asking import KEY, QUESTION, ask, ask_until_error, text_of

TEXT = Script().text
EVENTS = 9  # of the default script: role, five tokens, finish, usage, end mark


async def test_an_answer_is_its_chunks_as_the_provider_sent_them(openai: OpenAIProvider) -> None:
    """Text, finish reason and usage are read; fields nobody reads here are there too."""
    chunks = await ask(openai)
    assert text_of(chunks) == TEXT
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["stop"]
    assert chunks[-1].usage == Usage(prompt_tokens=7, completion_tokens=5)
    assert chunks[-1].body["choices"] == []
    assert {chunk.body["system_fingerprint"] for chunk in chunks} == {"fp_fake"}
    assert [chunk.has_content for chunk in chunks] == [False, *[True] * 7]


async def test_a_request_goes_out_with_all_its_fields(
    openai: OpenAIProvider, upstream: FakeUpstream
) -> None:
    """What the client asked, known here or not, reaches the provider; usage is always asked for."""
    special = {"reasoning_effort": "low", "x_vendor": {"top_k": 5}, "stream_options": {"x": 1}}
    await ask(openai, QUESTION | special)
    await openai.complete(QUESTION | special)
    streamed, plain = (request.json for request in upstream.requests)
    options = {"x": 1, "include_usage": True}
    assert streamed == QUESTION | special | {"stream": True, "stream_options": options}
    del special["stream_options"]
    assert plain == QUESTION | special | {"stream": False}


async def test_openai_itself_is_told_the_limit_by_its_newer_name(
    client: httpx.AsyncClient, openai: OpenAIProvider, upstream: FakeUpstream
) -> None:
    """Its newer models refuse `max_tokens`; a compatible server gets what the client sent."""
    newer = OpenAIProvider(client, base_url=upstream.base_url, renames_max_tokens=True)
    for provider in (newer, openai):
        await ask(provider, QUESTION | {"max_tokens": 5})
        await provider.complete(QUESTION | {"max_tokens": 5})
    limits = [
        request.json.keys() & {"max_tokens", "max_completion_tokens"}
        for request in upstream.requests
    ]
    assert limits == [{"max_completion_tokens"}] * 2 + [{"max_tokens"}] * 2


async def test_the_key_is_sent_and_no_key_is_no_header(
    client: httpx.AsyncClient, openai: OpenAIProvider, upstream: FakeUpstream
) -> None:
    """A local server without keys gets no empty bearer token."""
    await ask(openai)
    await ask(OpenAIProvider(client, base_url=f"{upstream.base_url}/"))
    with_key, without = (request.headers for request in upstream.requests)
    assert with_key["authorization"] == f"Bearer {KEY}"
    assert with_key["accept-encoding"] == "identity"
    assert "authorization" not in without


async def test_each_token_comes_when_it_is_sent(
    openai: OpenAIProvider, upstream: FakeUpstream
) -> None:
    """Nothing waits for what follows: the first token is here while the second is not sent."""
    upstream.script = Script(tokens=["One", "Two"], before_event={2: Action.HOLD})
    async with openai.stream(QUESTION) as answer:
        first = await anext(answer)
        assert text_of(first) == "One"
        upstream.release()
        assert text_of([chunk async for batch in answer for chunk in batch]) == "Two"


@pytest.mark.parametrize(
    "script",
    {
        **{f"{size} bytes at a time": Script(chunk_size=size) for size in (1, 2, 3, 7, 100)},
        "CRLF": Script(line_end=b"\r\n", chunk_size=5),
        "CR": Script(line_end=b"\r", chunk_size=5),
        "comments": Script(pings=True),
        "gzip": Script(gzip=True),
        "gzip, a byte at a time": Script(gzip=True, chunk_size=1),
        "other fields": Script(before_event={3: b"id: 7\nretry: 10\nnote: x\n"}),
        "more after the end mark": Script(before_event={EVENTS: sse({"choices": []})}),
        "paced": Script(token_interval=0.001),
    }.items(),
    ids=lambda item: item[0],
)
async def test_the_wire_changes_nothing(
    openai: OpenAIProvider, upstream: FakeUpstream, script: tuple[str, Script]
) -> None:
    """Any split, line end, comment, unknown field or compression yields the same chunks."""
    plain = [chunk.body for chunk in await ask(openai)]
    upstream.script = script[1]
    assert [chunk.body for chunk in await ask(openai)] == plain


async def test_an_event_of_several_lines_is_one_chunk(
    openai: OpenAIProvider, upstream: FakeUpstream
) -> None:
    """JSON that a server spreads over several `data` lines is read as one."""
    pretty = json.dumps({"choices": [{"delta": {"content": " and so on"}}]}, indent=1)
    lines = "".join(f"data: {line}\n" for line in pretty.splitlines())
    upstream.script = Script(before_event={6: f"{lines}\n".encode()})
    assert text_of(await ask(openai)) == TEXT + " and so on"


async def test_tool_calls_pass_through(openai: OpenAIProvider, upstream: FakeUpstream) -> None:
    """Every piece of a tool call arrives, counts as content, and ends as `tool_calls`."""
    calls = [ToolCall(id="call_1"), ToolCall(name="get_time", arguments=["{}"], id="call_2")]
    upstream.script = Script(tokens=[], tool_calls=calls)
    chunks = await ask(openai)
    pieces = [
        piece
        for chunk in chunks
        for choice in chunk.body["choices"]
        for piece in choice["delta"].get("tool_calls", [])
    ]
    assert [(piece.get("id"), piece["index"]) for piece in pieces] == [
        ("call_1", 0), (None, 0), ("call_2", 1),
    ]  # fmt: skip
    arguments = "".join(piece["function"]["arguments"] for piece in pieces[:2])
    assert json.loads(arguments) == {"city": "Zürich"}
    assert [chunk.has_content for chunk in chunks] == [False, *[True] * 5]
    assert chunks[-2].finish_reason == "tool_calls"


async def test_a_refusal_is_text(openai: OpenAIProvider, upstream: FakeUpstream) -> None:
    """What the model says when it refuses is said, in the field where it came."""
    upstream.script = Script(tokens=["I ", "cannot."], refusal=True)
    chunks = await ask(openai)
    assert text_of(chunks) == "I cannot."
    assert chunks[1].body["choices"][0]["delta"] == {"refusal": "I "}


@pytest.mark.parametrize("usage", [7, {"prompt_tokens": "x"}])
async def test_odd_usage_breaks_no_answer(
    openai: OpenAIProvider, upstream: FakeUpstream, usage: object
) -> None:
    """It counts for nothing and passes through; the answer goes on, and so do later counts."""
    told = {"choices": [], "usage": usage}
    upstream.script = Script(before_event={3: sse(told)})
    chunks = await ask(openai)
    assert text_of(chunks) == TEXT
    assert [(chunk.body, chunk.usage) for chunk in chunks[3:4]] == [(told, None)]
    assert chunks[-1].usage == Usage(7, 5)


async def test_every_finish_reason_passes(openai: OpenAIProvider, upstream: FakeUpstream) -> None:
    """The reason is the provider's word, also one that is not known here."""
    upstream.queue.extend(Script(finish_reason=reason) for reason in ("length", "cosmic_ray"))
    assert (await ask(openai))[-2].finish_reason == "length"
    assert (await ask(openai))[-2].finish_reason == "cosmic_ray"


async def test_plain_calls_pass_through(openai: OpenAIProvider, upstream: FakeUpstream) -> None:
    """Completion, embeddings and models come back whole, compressed on the way or not."""
    for script in (Script(), Script(gzip=True, chunk_size=7)):
        upstream.script = script
        completion = await openai.complete(QUESTION)
        assert completion["choices"][0]["message"]["content"] == TEXT
        assert usage_of(completion) == Usage(7, 5)
        embeddings = await openai.embed({"model": "e", "input": ["a", "b"]})
        assert [item["embedding"] for item in embeddings["data"]] == [[0.0] * 3, [1.0] * 3]
        assert [model["id"] for model in await openai.models()] == ["gpt-fake", "gpt-fake-mini"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "server_error", "code": None}, ProviderUnavailableError),
        ({"type": "tokens", "code": "rate_limit_exceeded"}, ProviderRateLimitedError),
        ({"type": "insufficient_quota"}, ProviderRateLimitedError),
        ({"type": "overloaded_error"}, ProviderOverloadedError),
        ({"type": "invalid_request_error", "code": "odd"}, ProviderRejectedError),
        ({"code": "context_length_exceeded"}, ProviderRejectedError),
        ({"code": 429}, ProviderRateLimitedError),
        ({"code": 502}, ProviderUnavailableError),
        ({"code": 503}, ProviderOverloadedError),
        ({"code": 400}, ProviderRejectedError),
        ({"code": ["odd"], "type": {}}, ProviderUnavailableError),
        ("sorry", ProviderUnavailableError),
    ],
)
async def test_an_error_in_mid_stream_ends_the_answer(
    openai: OpenAIProvider, upstream: FakeUpstream, error: object, kind: type[ProviderError]
) -> None:
    """An error event is the typed error, after all that was said before it, in one read or not."""
    told = error | {"message": "sorry"} if isinstance(error, dict) else error
    upstream.script = Script(before_event={3: sse({"error": told})})
    chunks, raised = await ask_until_error(openai)
    assert text_of(chunks) == "Hello,"
    assert type(raised) is kind
    assert str(raised) == "openai failed to answer: sorry"
    await upstream.wait_live(0)


async def test_an_error_may_be_told_by_the_events_name(
    openai: OpenAIProvider, upstream: FakeUpstream
) -> None:
    """`event: error` is an error whatever its data are called."""
    upstream.script = Script(before_event={3: sse({"message": "gone", "code": 503}, "error")})
    _, raised = await ask_until_error(openai)
    assert type(raised) is ProviderOverloadedError
    assert str(raised) == "openai failed to answer: gone"


async def test_a_refused_key_in_mid_stream_never_shows(
    openai: OpenAIProvider, upstream: FakeUpstream
) -> None:
    """The provider's words about the key are left out there too."""
    told = {"message": f"Incorrect API key: {KEY}", "code": "invalid_api_key"}
    upstream.script = Script(before_event={1: sse({"error": told})})
    _, raised = await ask_until_error(openai)
    assert type(raised) is ProviderAuthenticationError
    assert KEY not in str(raised)


async def test_an_error_under_status_200_is_an_error(
    openai: OpenAIProvider, upstream: FakeUpstream
) -> None:
    """A plain answer that is an error object is raised, not returned."""
    upstream.script = Script(body=b'{"error":{"message":"busy","code":429}}')
    with pytest.raises(ProviderRateLimitedError, match="busy"):
        await openai.complete(QUESTION)


@pytest.mark.parametrize(
    "garbage",
    [
        b"data: {\n\n",
        b"data: []\n\n",
        b"data: 1\n\n",
        b"data: \xff\n\n",
        b"data: <html>\n\n",
        b'data: {"choices":5}\n\n',
        b'data: {"choices":{"delta":{}}}\n\n',
        b'data: {"choices":["x"]}\n\n',
        b'data: {"choices":[{"delta":"x"}]}\n\n',
    ],
)
async def test_garbage_is_a_broken_stream(
    openai: OpenAIProvider, upstream: FakeUpstream, garbage: bytes
) -> None:
    """An event that is no chunk ends the answer with an error, after what was said before it."""
    upstream.script = Script(before_event={3: garbage})
    chunks, raised = await ask_until_error(openai)
    assert text_of(chunks) == "Hello,"
    assert type(raised) is BrokenStreamError
