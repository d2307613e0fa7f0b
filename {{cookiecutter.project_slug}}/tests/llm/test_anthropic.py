"""Anthropic's wire format over a real socket; its official SDK judges what is sent to it."""

from collections.abc import Iterable
from typing import Any

import httpx
import openai
import pytest

from app.llm.anthropic import AnthropicProvider
from app.llm.base import (
    BrokenStreamError,
    JSONObject,
    ProviderAuthenticationError,
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
    ProviderUnavailableError,
    Usage,
    usage_of,
)
from tests.service import serve
from tests.upstream import Action, FakeUpstream, Script, ToolCall, sse
from tests.upstream.anthropic import error_event

from . import (
    KEY,
    QUESTION,
    accumulated,
    ask,
    ask_until_error,
    assert_anthropic_accepts,
    both_ways,
    calls_of,
    error_of,
    text_of,
)

TOOL_CALLS = (ToolCall(id="toolu_1"), ToolCall(name="now", arguments=("",), id="toolu_2"))
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


@pytest.fixture
def provider(client: httpx.AsyncClient, upstream: FakeUpstream) -> AnthropicProvider:
    """Point the adapter at the fake upstream."""
    return AnthropicProvider(client, base_url=f"{upstream.origin}/v1/", api_key=KEY)


@pytest.mark.parametrize(
    "wire",
    [
        {},
        {"chunk_size": 7},
        {"line_end": b"\r\n", "chunk_size": 1},
        {"pings": True, "gzip": True, "chunk_size": 11},
        {"before_event": {3: sse({"type": "of_the_future", "mood": "fine"}, "of_the_future")}},
        {"before_event": {18: sse(b"[DONE]")}},
    ],
    ids=str,
)
async def test_an_answer_is_the_same_however_its_bytes_come(
    provider: AnthropicProvider, upstream: FakeUpstream, wire: Any
) -> None:
    """Text, numbered tool calls, reason and usage arrive; OpenAI's helper adds them up."""
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
    assert [chunk.has_content for chunk in chunks[:2]] == [False, True]


@both_ways
async def test_a_request_has_key_version_and_limit(
    provider: AnthropicProvider, upstream: FakeUpstream, *, stream: bool
) -> None:
    """Anthropic gets its own headers and the limit that it requires."""
    await (ask(provider) if stream else provider.complete(QUESTION))
    (request,) = upstream.requests
    assert request.path == "/v1/messages"
    assert request.headers["x-api-key"] == KEY
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in request.headers
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hi?"}]}]
    assert request.json == QUESTION | {
        "max_tokens": 16_384, "messages": messages, "stream": stream,
    }  # fmt: skip


async def test_a_plain_answer_is_a_completion(
    provider: AnthropicProvider, upstream: FakeUpstream
) -> None:
    """Without a stream the answer comes in one piece, in OpenAI's format."""
    upstream.script = script = Script(tool_calls=TOOL_CALLS)
    answer = await provider.complete(QUESTION)
    (choice,) = openai.types.chat.ChatCompletion.model_validate(answer, strict=True).choices
    assert choice.message.content == script.text
    assert [arguments for _, _, arguments in calls_of(choice.message)] == [
        '{"city":"Zürich"}', "{}",
    ]  # fmt: skip
    assert usage_of(answer) == Usage(script.prompt_tokens, script.completion_tokens)


async def test_models_are_openais(provider: AnthropicProvider, upstream: FakeUpstream) -> None:
    """A model has OpenAI's fields, its date in seconds; embeddings are refused without a call."""
    models = await provider.models()
    assert models[0] == {
        "id": "claude-fake", "object": "model", "created": 1_767_323_045, "owned_by": "anthropic",
    }  # fmt: skip
    with pytest.raises(ProviderRejectedError, match="no embeddings"):
        await provider.embed({"model": "claude", "input": "Hi"})
    assert upstream.counts.received == 1


def event_stream(*events: JSONObject) -> bytes:
    """Write an answer of these events."""
    head = {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 3, "output_tokens": 1}}
    start: JSONObject = {"type": "message_start", "message": head}
    return b"".join(sse(event, event["type"]) for event in (start, *events))


def block(index: int, content: JSONObject, *deltas: JSONObject) -> list[JSONObject]:
    """Write one content block in full."""
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def call_block(index: int, identity: str, *pieces: str, kind: str = "tool_use") -> list[JSONObject]:
    """Write a block that calls a tool."""
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return block(index, {"type": kind, "id": identity, "name": "f", "input": {}}, *deltas)


def end(reason: str | None = "end_turn", **usage: Any) -> list[JSONObject]:
    """End a message."""
    return [{"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}]


STOP: JSONObject = {"type": "message_stop"}
THINKING = block(
    0,
    {"type": "thinking", "thinking": ""},
    {"type": "thinking_delta", "thinking": "Hm."},
    {"type": "signature_delta", "signature": "c2ln"},
)


@pytest.mark.parametrize(
    ("events", "deltas", "reason", "usage"),
    [
        (block(0, {"type": "text", "text": "Hi"}) + end(), [{"content": "Hi"}], "stop", (3, 1)),
        (THINKING + end(), [{"reasoning_content": "Hm."}], "stop", (3, 1)),
        (block(0, {"type": "redacted_thinking", "data": "eHl6"}) + end(), [], "stop", (3, 1)),
        (block(0, {"type": "song"}, {"type": "note_delta", "note": "c"}), [], None, None),
        (call_block(0, "s", '{"q":1}', kind="server_tool_use") + end(), [], "stop", (3, 1)),
        (end("max_tokens", output_tokens=9), [], "length", (3, 9)),
        (end("model_context_window_exceeded"), [], "length", (3, 1)),
        (end("stop_sequence"), [], "stop", (3, 1)),
        (end("refusal"), [], "content_filter", (3, 1)),
        (end("a_reason_of_the_future"), [], "stop", (3, 1)),
        (end(None, output_tokens=4) + end(input_tokens=None, output_tokens=7), [], "stop", (3, 7)),
        (
            end(cache_read_input_tokens=300, cache_creation_input_tokens=20), [], "stop", (323, 1),
        ),
        *((end(output_tokens=odd), [], "stop", None) for odd in ("x", -1, 1.5, [3], 10**400)),
    ],
)  # fmt: skip
async def test_events_become_chunks(
    provider: AnthropicProvider,
    upstream: FakeUpstream,
    events: Iterable[JSONObject],
    deltas: list[JSONObject],
    reason: str | None,
    usage: tuple[int, int] | None,
) -> None:
    """Blocks and deltas have their places in OpenAI's format; what is unknown is skipped."""
    upstream.script = Script(body=event_stream(*events, STOP))
    chunks = await ask(provider)
    choices = [choice for chunk in chunks for choice in chunk.body["choices"]]
    sent = [choice["delta"] for choice in choices if choice["delta"]]
    assert sent == [{"role": "assistant", "content": ""}, *deltas]
    assert next((c.finish_reason for c in chunks if c.finish_reason), None) == reason
    counts = [chunk.usage for chunk in chunks if chunk.usage]
    assert (counts[-1] if counts else None) == (Usage(*usage) if usage else None)


async def test_tool_calls_are_numbered_among_themselves(
    provider: AnthropicProvider, upstream: FakeUpstream
) -> None:
    """Blocks count everything, OpenAI's indexes only the calls that the client has to answer."""
    calls = call_block(1, "a", "", '{"x":', "1}") + call_block(2, "s", kind="server_tool_use")
    text = block(0, {"type": "text", "text": "Wait"})
    events = [*text, *calls, *call_block(3, "b"), *end("tool_use"), STOP]
    upstream.script = Script(body=event_stream(*events))
    (choice,) = accumulated(await ask(provider)).choices
    assert calls_of(choice.message) == [("a", "f", '{"x":1}'), ("b", "f", "{}")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], {"content": ""}),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], {"content": "ab"}),
        ([{"type": "thinking", "thinking": "Hm."}], {"content": "", "reasoning_content": "Hm."}),
        (
            [{"type": "tool_use", "id": "a", "name": "f", "input": {}}],
            {
                "content": None,
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
        ),
        ([{"type": "server_tool_use", "id": "s"}, {"type": "song"}], {"content": ""}),
    ],
)
async def test_blocks_become_a_message(
    provider: AnthropicProvider,
    upstream: FakeUpstream,
    content: list[JSONObject],
    message: JSONObject,
) -> None:
    """A plain answer has its text, calls and thinking; usage is null where it is unknown."""
    body = {"id": "m", "model": "c", "stop_reason": "end_turn", "usage": 5, "content": content}
    upstream.script = Script(body=httpx.Request("POST", "http://x", json=body).content)
    answer = await provider.complete(QUESTION)
    head = {"role": "assistant", "refusal": None}
    assert answer["choices"][0]["message"] == head | message
    assert answer["usage"] is None


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (error_event("overloaded_error", "Sorry"), ProviderOverloadedError),
        (error_event("rate_limit_error", "Sorry"), ProviderRateLimitedError),
        (error_event("request_too_large", "Sorry"), ProviderRejectedError),
        (error_event("permission_error", "Sorry"), ProviderAuthenticationError),
        (error_event("api_error", "Sorry"), ProviderUnavailableError),
        (error_event("overloaded_error", "").partition(b"\n")[2], ProviderOverloadedError),
        (sse({"type": "error"}, "error"), ProviderUnavailableError),
        (sse({"error": {"type": ["a", "list"]}}, "error"), ProviderUnavailableError),
        (Action.CUT, BrokenStreamError),
        (Action.END, BrokenStreamError),
        *(
            (sse(garbage), BrokenStreamError)
            for garbage in (
                b"not json", b"[]", b"{}",
                b'{"type":"content_block_delta","index":0}',
                b'{"type":"message_delta","delta":null}',
            )
        ),
    ],
)  # fmt: skip
async def test_a_failure_in_mid_stream_is_typed(
    provider: AnthropicProvider, upstream: FakeUpstream, event: Any, kind: type[ProviderError]
) -> None:
    """Status 200 hides no failure: the text before it is passed on, then it is raised."""
    upstream.script = Script(before_event={4: event})
    chunks, error = await ask_until_error(provider)
    assert type(error) is kind
    assert text_of(chunks) == Script().texts[0]


@both_ways
@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (529, None, ProviderOverloadedError),
        *(
            (400, error_event("invalid_request_error", words).partition(b"data: ")[2], kind)
            for words, kind in (
                ("Your credit balance is too low to access the API.", ProviderRateLimitedError),
                ("You have reached your specified API usage limits.", ProviderRateLimitedError),
                ("prompt is too long", ProviderRejectedError),
            )
        ),
        *(
            (200, body, BrokenStreamError)
            for body in (b"{}", b"[]", b"oops", b'{"content":["text"]}', b'{"content":[{}]}')
        ),
    ],
)
async def test_a_refusal_is_typed(
    provider: AnthropicProvider,
    upstream: FakeUpstream,
    status: int,
    body: bytes | None,
    kind: type[ProviderError],
    *,
    stream: bool,
) -> None:
    """Each failure has its type; an empty account is no bad request, since another may answer."""
    upstream.script = Script(status=status, body=body)
    error = await error_of(provider, stream=stream)
    assert type(error) is kind


async def test_a_ping_is_a_sign_of_life(
    provider: AnthropicProvider, upstream: FakeUpstream
) -> None:
    """A ping arrives as a batch without chunks, so that thinking is not silence."""
    upstream.script = Script(before_event={1: Action.HOLD, 2: Action.HOLD})
    async with provider.stream(QUESTION) as batches:
        assert len(await anext(batches)) == 1
        upstream.release()
        assert await anext(batches) == []


async def test_openais_sdk_speaks_with_anthropic(upstream: FakeUpstream) -> None:
    """Tools, images, extra fields and errors of OpenAI's SDK reach Anthropic and come back."""
    upstream.script = Script(tool_calls=TOOL_CALLS[:1])
    messages: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "Here?"}, PNG]}]
    asked: Any = {"model": "claude-fake", "tools": [WEATHER], "messages": messages}
    async with serve(
        llm_provider="anthropic",
        llm_model="claude-fake",
        anthropic_base_url=upstream.origin,
        anthropic_api_key=KEY,
    ) as service:
        create = service.openai.chat.completions.create
        async with service.openai.chat.completions.stream(**asked) as stream:
            answer = (await stream.get_final_completion()).choices[0].message
        messages.append(answer.to_dict())
        messages.append({"role": "tool", "tool_call_id": "toolu_1", "content": "sunny"})
        await create(**asked, extra_body={"thinking": {"type": "adaptive"}})
        upstream.script = Script(status=529)
        with pytest.raises(openai.InternalServerError):
            await create(**asked)
    sent = upstream.requests[1].json
    assert_anthropic_accepts(sent)
    assert sent["thinking"] == {"type": "adaptive"}
    question, called, answered = (turn["content"] for turn in sent["messages"])
    assert question[1]["source"]["data"] == "iVBORw0KGgo="
    assert called[1]["input"] == {"city": "Zürich"}
    assert answered[0]["tool_use_id"] == called[1]["id"] == "toolu_1"
