"""OpenAI's wire format over a real socket."""

import asyncio

import httpx
import pytest

from app.llm.base import (
    MAX_TOKENS,
    BrokenStreamError,
    Chunk,
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
from tests.upstream import Action, FakeUpstream, Script, sse

from . import (
    EVENTS,
    KEY,
    QUESTION,
    TEXT,
    ask,
    ask_until_error,
    error_of,
    text_of,
)


async def test_an_answer_is_its_chunks(openai: OpenAIProvider) -> None:
    """Text, finish reason and usage are read; all other fields pass through."""
    chunks = await ask(openai)
    assert text_of(chunks) == TEXT
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["stop"]
    assert chunks[-1].usage == Usage(prompt_tokens=7, completion_tokens=5)
    assert {chunk.body["system_fingerprint"] for chunk in chunks} == {"fp_fake"}
    assert [chunk.has_content for chunk in chunks] == [False, *[True] * 7]


async def test_a_request_goes_out_with_all_its_fields(
    openai: OpenAIProvider, upstream: FakeUpstream
) -> None:
    """Known or not, each field reaches the provider; usage is always requested."""
    special = {"reasoning_effort": "low", "x_vendor": {"top_k": 5}, "stream_options": {"x": 1}}
    await ask(openai, QUESTION | special)
    await openai.complete(QUESTION | special)
    streamed, plain = (request.json for request in upstream.requests)
    options = {"x": 1, "include_usage": True}
    assert streamed == QUESTION | special | {"stream": True, "stream_options": options}
    del special["stream_options"]
    assert plain == QUESTION | special | {"stream": False}


@pytest.mark.parametrize("renames", [True, False])
async def test_the_limit_can_have_its_newer_name(
    client: httpx.AsyncClient, upstream: FakeUpstream, *, renames: bool
) -> None:
    """OpenAI's newer models refuse `max_tokens`; a compatible server gets what the client sent."""
    provider = OpenAIProvider(client, base_url=upstream.base_url, renames_max_tokens=renames)
    await ask(provider, QUESTION | {"max_tokens": 5})
    await provider.complete(QUESTION | {"max_tokens": 5})
    name = "max_completion_tokens" if renames else "max_tokens"
    for request in upstream.requests:
        assert request.json.keys() & {"max_tokens", "max_completion_tokens"} == {name}


async def test_without_a_key_no_header_is_sent(
    client: httpx.AsyncClient, openai: OpenAIProvider, upstream: FakeUpstream
) -> None:
    """A local server without keys gets no empty bearer token."""
    await ask(openai)
    await ask(OpenAIProvider(client, base_url=f"{upstream.base_url}/"))
    with_key, without = (request.headers for request in upstream.requests)
    assert with_key["authorization"] == f"Bearer {KEY}"
    assert with_key["content-type"] == "application/json"
    assert with_key["accept-encoding"] == "identity"
    assert "authorization" not in without


@pytest.mark.parametrize(
    "script",
    [
        *(Script(chunk_size=size) for size in (1, 3, 100)),
        Script(line_end=b"\r\n", chunk_size=5),
        Script(line_end=b"\r", chunk_size=5),
        Script(pings=True),
        Script(gzip=True, chunk_size=1),
        Script(before_event={3: b"id: 7\nretry: 10\nnote: x\n"}),
        Script(before_event={3: sse({"choices": [], "usage": {"prompt_tokens": "x"}})}),
        Script(before_event={EVENTS: sse({"choices": []})}),
        Script(before_event={EVENTS: Action.HOLD}),
        Script(refusal=True),
    ],
    ids=[
        "1 byte", "3 bytes", "100 bytes", "CRLF", "CR", "comments", "gzip", "other fields",
        "odd usage", "more after the end mark", "no end of the body", "a refusal",
    ],
)  # fmt: skip
async def test_the_wire_changes_nothing(
    openai: OpenAIProvider, upstream: FakeUpstream, script: Script
) -> None:
    """However its bytes come, an answer is whole with its end mark."""
    upstream.script = script
    async with asyncio.timeout(5):
        chunks = await ask(openai)
    assert text_of(chunks) == TEXT
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["stop"]
    assert chunks[-1].usage == Usage(7, 5)


@pytest.mark.parametrize(
    ("event", "kind", "message"),
    [
        (sse({"error": {"type": "server_error", "message": "m"}}), ProviderUnavailableError, "m"),
        (sse({"error": {"code": "rate_limit_exceeded"}}), ProviderRateLimitedError, ""),
        (sse({"error": {"type": "insufficient_quota"}}), ProviderRateLimitedError, ""),
        (sse({"error": {"type": "overloaded_error"}}), ProviderOverloadedError, ""),
        (sse({"error": {"type": "invalid_request_error", "code": "x"}}), ProviderRejectedError, ""),
        (sse({"error": {"code": 429}}), ProviderRateLimitedError, ""),
        (sse({"error": {"code": 502}}), ProviderUnavailableError, ""),
        (sse({"error": {"code": 400}}), ProviderRejectedError, ""),
        (sse({"error": {"code": ["odd"], "type": {}}}), ProviderUnavailableError, ""),
        (sse({"error": "sorry"}), ProviderUnavailableError, "sorry"),
        (sse({"message": "gone", "code": 503}, "error"), ProviderOverloadedError, "gone"),
        (
            sse({"error": {"message": f"bad key {KEY}", "code": "invalid_api_key"}}),
            ProviderAuthenticationError,
            "it refused the service's credentials",
        ),
        *(
            (b"data: " + garbage + b"\n\n", BrokenStreamError, None)
            for garbage in (
                b"{", b"[]", b"1", b"\xff", b"<html>", b'{"choices":5}',
                b'{"choices":{"delta":{}}}', b'{"choices":["x"]}', b'{"choices":[{"delta":"x"}]}',
            )
        ),
    ],
)  # fmt: skip
async def test_an_error_in_mid_stream_ends_the_answer(
    openai: OpenAIProvider,
    upstream: FakeUpstream,
    event: bytes,
    kind: type[ProviderError],
    message: str | None,
) -> None:
    """An error event or garbage is a typed error, after all the text before it."""
    upstream.script = Script(before_event={3: event})
    chunks, error = await ask_until_error(openai)
    assert text_of(chunks) == "Hello,"
    assert type(error) is kind
    if message is not None:
        expected = "openai failed to answer" + (f": {message}" if message else "")
        assert str(error) == expected
    await upstream.wait_live(0)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"error":{"message":"busy","code":429}}', ProviderRateLimitedError),
        *((body, BrokenStreamError) for body in (b"", b"<html>", b'{"a":', b"[]", b"1", b"\xff")),
    ],
)
async def test_status_200_alone_is_no_answer(
    openai: OpenAIProvider, upstream: FakeUpstream, body: bytes, kind: type[ProviderError]
) -> None:
    """A plain answer that is an error object, or no JSON object, is an error."""
    upstream.script = Script(body=body)
    assert type(await error_of(openai, stream=False)) is kind


@pytest.mark.parametrize("action", [Action.CUT, Action.RESET, Action.END])
@pytest.mark.parametrize("event", [0, 1, 3, 7, 8])
async def test_an_answer_without_its_end_mark_is_broken(
    openai: OpenAIProvider, upstream: FakeUpstream, action: Action, event: int
) -> None:
    """Wherever connection or response end before `[DONE]`, it is no success and no hang."""
    upstream.script = Script(before_event={event: action})
    chunks, error = await ask_until_error(openai)
    assert type(error) is BrokenStreamError
    assert TEXT.startswith(text_of(chunks))


THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
HI = {"type": "text", "text": "Hi"}


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        (None, ""),
        ({"content": None}, ""),
        ({"content": "Hi"}, "Hi"),
        ({"content": "", "refusal": "No."}, "No."),
        ({"content": 5, "refusal": "No."}, "No."),
        ({"content": [THINKING, HI, HI]}, "HiHi"),
        ({"content": [{"type": "text", "text": 5}, {"type": "text"}, "x", None, HI]}, "Hi"),
        ({"content": [{"type": "reasoning", "text": "Hm."}]}, ""),
        ({"content": {"a": 1}, "refusal": {"a": 1}}, ""),
    ],
)
def test_text_is_always_a_string(delta: object, text: str) -> None:
    """A string is itself, of parts those of type text count, and anything else adds none."""
    assert Chunk({"choices": [{"delta": delta, "finish_reason": ["odd"]}]}).text == text
    assert Chunk({"choices": [{"delta": delta, "finish_reason": ["odd"]}]}).finish_reason is None


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 5, "cost": "free"}, Usage(7, 5)),
        ({"prompt_tokens": 7, "completion_tokens": None}, Usage(7, 0)),
        ({"prompt_tokens": MAX_TOKENS}, Usage(MAX_TOKENS, 0)),
    ],
)
def test_usage_is_read(usage: object, counted: Usage) -> None:
    """Both counts are read; one that is missing is zero."""
    assert usage_of({"usage": usage}) == counted


@pytest.mark.parametrize("odd", [None, {}, [], "x", True, "7", -1, 7.0, MAX_TOKENS + 1])
def test_odd_usage_is_unknown(odd: object) -> None:
    """What is no object is no usage, and a count that makes no sense makes all of it unknown."""
    assert usage_of({"usage": odd}) is None
    if odd is not None:
        assert usage_of({"usage": {"prompt_tokens": 7, "completion_tokens": odd}}) is None
