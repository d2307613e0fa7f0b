"""Both wire formats over a real socket; what answers mean is in `tests/api/test_answers.py`."""

import asyncio
from typing import Any

import httpx
import pytest

from app.llm.anthropic import AnthropicProvider
from app.llm.base import (
    MAX_TOKENS,
    BrokenStreamError,
    Chunk,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
    Usage,
    usage_of,
)
from app.llm.openai import OpenAIProvider
from tests.upstream import Action, FakeUpstream, Script, ToolCall, sse

from . import (
    KEY,
    QUESTION,
    accumulated,
    ask,
    ask_until_error,
    both_ways,
    calls_of,
    error_of,
    text_of,
)

TOOL_CALLS = (ToolCall(id="t1"), ToolCall(name="now", arguments=("{}",), id="t2"))
Adapter = OpenAIProvider | AnthropicProvider


@pytest.fixture(params=["openai", "anthropic"])
def provider(
    request: pytest.FixtureRequest, client: httpx.AsyncClient, upstream: FakeUpstream
) -> Adapter:
    """Point one of the adapters at the fake upstream."""
    adapter = OpenAIProvider if request.param == "openai" else AnthropicProvider
    return adapter(client, base_url=f"{upstream.base_url}/", api_key=KEY)


@pytest.mark.parametrize(
    "wire",
    [
        {"chunk_size": 1},
        {"gzip": True, "chunk_size": 11},
        {"before_event": {3: b"id: 7\nretry: 10\nnote: x\n"}},
        {"before_event": {18: sse(b"more after the end mark")}},
        {"before_event": {18: Action.HOLD}},
    ],
    ids=str,
)
async def test_an_answer_is_the_same_however_its_bytes_come(
    provider: Adapter, upstream: FakeUpstream, wire: Any
) -> None:
    """Text, tool calls, reason and usage are whole with the end mark; OpenAI's helper agrees."""
    upstream.script = script = Script(tool_calls=TOOL_CALLS, **wire)
    async with asyncio.timeout(5):
        chunks = await ask(provider)
    (choice,) = accumulated(chunks).choices
    assert choice.message.content == text_of(chunks) == script.text
    assert calls_of(choice.message) == [
        ("t1", "get_weather", '{"city": "Zürich"}'),
        ("t2", "now", "{}"),
    ]
    assert choice.finish_reason == "tool_calls"
    assert chunks[-1].usage == Usage(script.prompt_tokens, script.completion_tokens)
    assert [chunk.has_content for chunk in chunks[:2]] == [False, True]


@pytest.mark.parametrize("action", [Action.CUT, Action.RESET])
@pytest.mark.parametrize("event", [0, 1, 4, -2, -1])
async def test_a_cut_answer_is_broken(
    provider: Adapter, upstream: FakeUpstream, action: Action, event: int
) -> None:
    """Wherever the connection breaks before the end mark, it is no success and no hang."""
    upstream.script = Script(before_event={event: action})
    chunks, error = await ask_until_error(provider)
    assert type(error) is BrokenStreamError
    assert Script().text.startswith(text_of(chunks))


async def test_openai_gets_every_field(client: httpx.AsyncClient, upstream: FakeUpstream) -> None:
    """Known or not, each field reaches the provider; usage is always requested."""
    special = {"reasoning_effort": "low", "x_vendor": {"top_k": 5}, "stream_options": {"x": 1}}
    provider = OpenAIProvider(client, base_url=upstream.base_url)
    await ask(provider, QUESTION | special)
    await provider.complete(QUESTION | special)
    streamed, plain = upstream.requests
    options = {"x": 1, "include_usage": True}
    assert streamed.json == QUESTION | special | {"stream": True, "stream_options": options}
    del special["stream_options"]
    assert plain.json == QUESTION | special | {"stream": False}
    assert "authorization" not in streamed.headers, "a server without keys gets no empty one"
    assert streamed.headers["accept-encoding"] == "identity"


@both_ways
@pytest.mark.parametrize("renames", [True, False])
async def test_the_limit_can_have_its_newer_name(
    client: httpx.AsyncClient, upstream: FakeUpstream, *, renames: bool, stream: bool
) -> None:
    """OpenAI's newer models refuse `max_tokens`; a compatible server gets what the client sent."""
    provider = OpenAIProvider(client, base_url=upstream.base_url, renames_max_tokens=renames)
    request = QUESTION | {"max_tokens": 5}
    await (ask(provider, request) if stream else provider.complete(request))
    name = "max_completion_tokens" if renames else "max_tokens"
    (sent,) = upstream.requests
    assert sent.json.keys() & {"max_tokens", "max_completion_tokens"} == {name}


@both_ways
async def test_anthropic_gets_key_version_and_limit(
    client: httpx.AsyncClient, upstream: FakeUpstream, *, stream: bool
) -> None:
    """Anthropic has headers of its own, and requires a limit."""
    provider = AnthropicProvider(client, base_url=upstream.origin, api_key=KEY)
    await (ask(provider) if stream else provider.complete(QUESTION))
    (request,) = upstream.requests
    assert request.path == "/v1/messages"
    assert request.headers["x-api-key"] == KEY
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in request.headers
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hi?"}]}]
    added = {"max_tokens": 16_384, "messages": messages, "stream": stream}
    assert request.json == QUESTION | added


async def test_anthropics_models_are_openais(
    client: httpx.AsyncClient, upstream: FakeUpstream
) -> None:
    """A model has OpenAI's fields, its date in seconds; embeddings are refused without a call."""
    provider = AnthropicProvider(client, base_url=upstream.origin)
    assert (await provider.models())[0] == {
        "id": "claude-fake", "object": "model", "created": 1_767_323_045, "owned_by": "anthropic",
    }  # fmt: skip
    with pytest.raises(ProviderRejectedError, match="no embeddings"):
        await provider.embed({"model": "claude", "input": "Hi"})
    assert upstream.counts.received == 1


@both_ways
@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (529, "Overloaded", ProviderOverloadedError),
        (400, "Your credit balance is too low to access the API.", ProviderRateLimitedError),
        (400, "You have reached your specified API usage limits.", ProviderRateLimitedError),
        (400, "prompt is too long", ProviderRejectedError),
    ],
)
async def test_an_empty_account_is_no_bad_request(
    client: httpx.AsyncClient,
    upstream: FakeUpstream,
    status: int,
    words: str,
    kind: type,
    *,
    stream: bool,
) -> None:
    """Anthropic answers 400 to both, but another provider may have money."""
    body = b'{"error":{"type":"invalid_request_error","message":"%b"}}' % words.encode()
    upstream.script = Script(status=status, body=body)
    provider = AnthropicProvider(client, base_url=upstream.origin)
    assert type(await error_of(provider, stream=stream)) is kind


@pytest.mark.parametrize("ping", [sse(b"now", "ping"), b": wait\n\n"])
async def test_a_ping_is_a_sign_of_life(
    client: httpx.AsyncClient, upstream: FakeUpstream, ping: bytes
) -> None:
    """A ping arrives as a batch without chunks, so that thinking is not silence."""
    start = sse({"type": "message_start", "message": {}})
    held = {len(start): Action.HOLD, len(start + ping): Action.HOLD}
    upstream.script = Script(body=start + ping + b" ", at_byte=held)
    provider = AnthropicProvider(client, base_url=upstream.origin)
    async with provider.stream(QUESTION) as batches:
        assert len(await anext(batches)) == 1
        await upstream.wait_held(1)
        upstream.release()
        assert await anext(batches) == []


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        (None, ""),
        ({"content": None}, ""),
        ({"content": "", "refusal": "No."}, "No."),
        ({"content": 5, "refusal": "No."}, "No."),
        ({"content": [{"type": "text", "text": 5}, {"type": "text"}, "x", None]}, ""),
        ({"content": [{"type": "reasoning", "text": "Hm."}]}, ""),
        ({"content": {"a": 1}, "refusal": {"a": 1}}, ""),
    ],
)
def test_text_is_always_a_string(delta: object, text: str) -> None:
    """A string is itself, of parts those of type text count, and anything else adds none."""
    chunk = Chunk.of({"choices": [{"delta": delta, "finish_reason": ["odd"]}]})
    assert (chunk.text, chunk.finish_reason) == (text, None)


ODD: list[Any] = [None, {}, [], "x", True, "7", -1, 7.5, MAX_TOKENS + 1]


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}, Usage(7, 5)),
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 40}, Usage(7, 33)),
        ({"prompt_tokens": 7, "total_tokens": 7}, Usage(7, 0)),
        ({"prompt_tokens": None, "completion_tokens": 5}, Usage(0, 5)),
        *((odd, None) for odd in ODD[:4]),
        *(({"prompt_tokens": 7, "completion_tokens": odd}, None) for odd in ODD[1:]),
    ],
)
def test_usage_is_read(usage: object, counted: Usage | None) -> None:
    """A missing count is zero, reasoning apart is counted, and what makes no sense is unknown."""
    assert usage_of({"usage": usage}) == counted
