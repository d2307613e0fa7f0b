"""The Anthropic adapter over a real socket, against a server that speaks Anthropic's format."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import TextBlock, ToolUseBlock

from app.llm.anthropic import AnthropicProvider
from app.llm.base import ProviderRejectedError, Usage, usage_of
from tests.upstream import Action, FakeUpstream, Script, ToolCall, sse

from .asking import KEY, QUESTION, ask, text_of
from .judges import accumulated, assert_anthropic_accepts, calls_of, parsed

TOOL_CALLS = (ToolCall(id="toolu_1"), ToolCall(name="now", arguments=("",), id="toolu_2"))
EVENTS_OF_THE_SCRIPT = 11
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}


@pytest.fixture
def provider(client: httpx.AsyncClient, upstream: FakeUpstream) -> AnthropicProvider:
    """Point the adapter at the fake upstream."""
    return AnthropicProvider(client, base_url=upstream.origin, api_key=KEY)


@pytest.mark.parametrize(
    "wire",
    [
        {},
        *({"chunk_size": size} for size in (1, 2, 3, 7, 50)),
        {"line_end": b"\r\n"},
        {"line_end": b"\r\n", "chunk_size": 1},
        {"line_end": b"\r"},
        {"pings": True, "chunk_size": 11},
        {"gzip": True},
        {"gzip": True, "chunk_size": 5},
        {"before_event": {3: sse({"type": "ping"}, "ping")}},
        {"before_event": {3: sse({"type": "of_the_future", "mood": "fine"}, "of_the_future")}},
    ],
    ids=str,
)
async def test_an_answer_is_the_same_however_its_bytes_come(
    provider: AnthropicProvider, upstream: FakeUpstream, wire: Mapping[str, Any]
) -> None:
    """Split anywhere, with any line end, among pings and compressed, it says the same."""
    upstream.script = script = Script(tool_calls=TOOL_CALLS, **wire)
    chunks = await ask(provider)
    (choice,) = accumulated(chunks).choices
    assert choice.message.content == script.text
    assert calls_of(choice.message) == [
        ("toolu_1", "get_weather", '{"city": "Zürich"}'),
        ("toolu_2", "now", "{}"),
    ]
    assert choice.finish_reason == "tool_calls"
    assert chunks[-1].usage == Usage(script.prompt_tokens, script.completion_tokens)


async def test_the_upstream_speaks_anthropics_format(upstream: FakeUpstream) -> None:
    """The official SDK understands the server that stands in for Anthropic, both ways."""
    upstream.script = script = Script(tool_calls=TOOL_CALLS)
    question: Any = {**QUESTION, "max_tokens": 9}
    async with AsyncAnthropic(base_url=upstream.origin, api_key=KEY, max_retries=0) as anthropic:
        async with anthropic.messages.stream(**question) as stream:
            streamed = await stream.get_final_message()
        plain = await anthropic.messages.create(**question)
        listed = [model.id async for model in anthropic.models.list()]
    for message in (streamed, plain):
        text, *calls = message.content
        assert isinstance(text, TextBlock)
        assert text.text == script.text
        inputs = [call.input for call in calls if isinstance(call, ToolUseBlock)]
        assert inputs == [{"city": "Zürich"}, {}]
        assert message.stop_reason == "tool_use"
        assert message.usage.input_tokens == script.prompt_tokens
        assert message.usage.output_tokens == script.completion_tokens
    assert listed == ["claude-fake", "claude-fake-mini"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_carries_key_and_version(
    provider: AnthropicProvider, upstream: FakeUpstream, stream: bool
) -> None:
    """Anthropic gets its own headers, its own body, and what it demands."""
    await (ask(provider) if stream else provider.complete(QUESTION))
    (request,) = upstream.requests
    assert request.path == "/v1/messages"
    assert request.headers["x-api-key"] == KEY
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in request.headers
    assert request.json == {
        "model": QUESTION["model"],
        "max_tokens": 16_384,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi?"}]}],
        "stream": stream,
    }


async def test_the_default_limit_can_be_set(
    client: httpx.AsyncClient, upstream: FakeUpstream
) -> None:
    """Whoever builds the adapter says how long an answer may be that sets no limit."""
    await ask(AnthropicProvider(client, base_url=upstream.origin, default_max_tokens=7))
    assert upstream.requests[0].json["max_tokens"] == 7


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
async def test_the_base_url_may_end_in_v1(
    client: httpx.AsyncClient, upstream: FakeUpstream, ending: str
) -> None:
    """Both habits of writing the address lead to the same place."""
    provider = AnthropicProvider(client, base_url=upstream.origin + ending)
    assert text_of(await ask(provider)) == Script().text
    assert "x-api-key" not in upstream.requests[0].headers


async def test_tools_and_images_go_there_and_back(
    provider: AnthropicProvider, upstream: FakeUpstream
) -> None:
    """A conversation with a picture and a tool's result is one that Anthropic takes."""
    upstream.script = Script(tool_calls=TOOL_CALLS[:1])
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    messages: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "Here?"}, image]}]
    request = QUESTION | {"messages": messages, "tools": [WEATHER]}
    answer = accumulated(await ask(provider, request))
    ((identity, _, _),) = calls_of(answer.choices[0].message)
    messages.append(answer.choices[0].message.to_dict())
    messages.append({"role": "tool", "tool_call_id": identity, "content": "sunny"})
    await ask(provider, request)
    sent = upstream.requests[-1].json
    assert_anthropic_accepts(sent)
    asked, called, answered = (turn["content"] for turn in sent["messages"])
    assert asked[1]["source"]["data"] == "iVBORw0KGgo="
    assert called[1]["input"] == {"city": "Zürich"}
    assert answered[0]["tool_use_id"] == called[1]["id"] == "toolu_1"


async def test_a_plain_answer_is_a_completion(
    provider: AnthropicProvider, upstream: FakeUpstream
) -> None:
    """Without a stream the answer comes in one piece, in OpenAI's format."""
    upstream.script = script = Script(tool_calls=TOOL_CALLS)
    answer = await provider.complete(QUESTION)
    (choice,) = parsed(answer).choices
    assert choice.message.content == script.text
    assert [identity for identity, _, _ in calls_of(choice.message)] == ["toolu_1", "toolu_2"]
    assert usage_of(answer) == Usage(script.prompt_tokens, script.completion_tokens)


async def test_a_refusal_is_told(provider: AnthropicProvider, upstream: FakeUpstream) -> None:
    """A refused answer says why and ends as filtered."""
    upstream.script = Script(tokens=["Not", " this."], refusal=True)
    chunks = await ask(provider)
    assert text_of(chunks) == "Not this."
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["content_filter"]


async def test_models_are_listed_as_openai_does(
    provider: AnthropicProvider, upstream: FakeUpstream
) -> None:
    """A model has OpenAI's fields, its date in seconds."""
    models = await provider.models()
    created = 1_767_323_045
    assert models[0] == {
        "id": "claude-fake", "object": "model", "created": created, "owned_by": "anthropic",
    }  # fmt: skip
    assert len(models) == 2


async def test_all_models_are_asked_for() -> None:
    """Anthropic gives 20 models unless asked for more."""
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(200, json={"data": []})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        assert await AnthropicProvider(client).models() == []
    assert [str(url) for url in asked] == ["https://api.anthropic.com/v1/models?limit=1000"]


async def test_embeddings_are_refused(provider: AnthropicProvider, upstream: FakeUpstream) -> None:
    """Anthropic has none, and is not asked."""
    with pytest.raises(ProviderRejectedError, match="no embeddings"):
        await provider.embed({"model": "claude", "input": "Hi"})
    assert upstream.counts.received == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_what_cannot_be_translated_is_never_sent(
    provider: AnthropicProvider, upstream: FakeUpstream, stream: bool
) -> None:
    """A request that is refused here costs no call."""
    request = QUESTION | {"n": 2}
    with pytest.raises(ProviderRejectedError):
        await (ask(provider, request) if stream else provider.complete(request))
    assert upstream.counts.received == 0


async def test_nothing_after_the_end_mark_matters(
    provider: AnthropicProvider, upstream: FakeUpstream
) -> None:
    """Some servers add OpenAI's end mark to Anthropic's."""
    upstream.script = Script(before_event={EVENTS_OF_THE_SCRIPT: sse(b"[DONE]")})
    assert text_of(await ask(provider)) == Script().text


async def test_leaving_a_stream_closes_the_request(
    provider: AnthropicProvider, upstream: FakeUpstream
) -> None:
    """Who stops reading stops paying: the provider sees it at once."""
    upstream.script = Script(before_event={4: Action.HOLD})
    async with provider.stream(QUESTION) as batches:
        await anext(batches)
        await upstream.wait_live(1)
    await upstream.wait_aborted(1)
    assert await anext(batches, None) is None


@pytest.mark.parametrize(
    ("stream", "held"),
    [
        (False, {"before_headers": Action.HOLD}),
        (True, {"before_headers": Action.HOLD}),
        (True, {"before_event": {4: Action.HOLD}}),
    ],
)
async def test_cancelling_closes_the_request(
    provider: AnthropicProvider, upstream: FakeUpstream, stream: bool, held: Mapping[str, Any]
) -> None:
    """A cancelled wait, before the answer or within it, reaches the provider."""
    upstream.script = Script(**held)
    task = asyncio.create_task(ask(provider) if stream else provider.complete(QUESTION))
    await upstream.wait_live(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await upstream.wait_aborted(1)


async def test_a_connection_is_used_again(
    provider: AnthropicProvider, upstream: FakeUpstream
) -> None:
    """Whole answers leave their connection to the next."""
    for _ in range(3):
        await ask(provider)
    await provider.complete(QUESTION)
    assert upstream.counts.connections == 1


async def test_a_late_end_of_the_body_does_not_cost_the_connection(
    provider: AnthropicProvider, upstream: FakeUpstream
) -> None:
    """The end of the body may come after the end mark: a moment is waited for it."""
    upstream.script = Script(before_event={EVENTS_OF_THE_SCRIPT: Action.HOLD})
    async with provider.stream(QUESTION) as batches:
        async for batch in batches:
            if batch[-1].usage:
                asyncio.get_running_loop().call_soon(upstream.release)
    await provider.models()
    assert upstream.counts.connections == 1


async def test_a_ping_is_a_sign_of_life(
    provider: AnthropicProvider, upstream: FakeUpstream
) -> None:
    """Silent thinking is not silence: a ping arrives as a batch without chunks."""
    upstream.script = Script(before_event={1: Action.HOLD, 2: Action.HOLD})
    async with provider.stream(QUESTION) as batches:
        assert len(await anext(batches)) == 1
        upstream.release()
        assert await anext(batches) == []
