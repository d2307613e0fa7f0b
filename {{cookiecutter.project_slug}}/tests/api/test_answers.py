"""What real providers send, and what clients get: bytes → outcome.

The cases are public bug reports of comparable systems, written anew, and their siblings. Each runs
through the whole service: a stream over `/v1`, read by OpenAI's SDK, and over `/chat`; a plain
answer over `/v1`. JSON is sent as JSON, events as events, but where a name says otherwise.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import openai
import pytest

from app.llm.failures import OUT_OF_CREDIT
from app.llm.router import Retry
from tests.service import COMPLETION, QUESTION, RunningService, events_of, serve
from tests.upstream import Action, FakeUpstream, Script, sse

BROKEN, UNAVAILABLE = "provider_broken_stream", "provider_unavailable"
OVERLOADED, LIMITED = "provider_overloaded", "provider_rate_limited"
INVALID = "invalid_request_error"


@dataclass
class Outcome:
    """What a client has at the end; `status` is that of a failure before the first byte."""

    text: str = ""
    finish: str | None = None
    error: str | None = None
    status: int | None = None
    calls: tuple[str, ...] = ()
    reasoning: str = ""


Case = tuple[bytes, Outcome] | tuple[bytes, Outcome, tuple[str, ...]]
"""What is sent, what comes of it, and what is to be found in what `/v1` gives out."""


def says(text: str = "", finish: str | None = "stop", **more: Any) -> Outcome:
    """Expect a whole answer."""
    return Outcome(text, "tool_calls" if "calls" in more else finish, **more)


def fails(error: str = BROKEN, status: int | None = 502, text: str = "") -> Outcome:
    """Expect a failure: with a status, or as the last event after this text."""
    return Outcome(text, error=error, status=None if text else status)


def dumped(body: Any) -> bytes:
    """Write JSON with all escapes, as halves of surrogate pairs need them."""
    return json.dumps(body).encode()


def body(choices: Any, **fields: Any) -> dict[str, Any]:
    """Write a chunk."""
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**head, "choices": choices, **fields}


def delta(content: Any = None, finish: str | None = None, **fields: Any) -> bytes:
    """Write an event that adds text, or other fields."""
    added = fields if content is None else {"content": content, **fields}
    return sse(dumped(body([{"index": 0, "delta": added, "finish_reason": finish}])))


def call(arguments: str, index: int = 0, **named: Any) -> bytes:
    """Write an event that adds to a tool call."""
    opening = {"id": f"c{index}", "type": "function"} if named else {}
    function = {**named, "arguments": arguments}
    return delta(tool_calls=[{"index": index, **opening, "function": function}])


def plain(message: dict[str, Any], finish: str | None = "stop", **fields: Any) -> bytes:
    """Write a whole completion."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return dumped({**body([choice | fields]), "object": "chat.completion"})


HI, STOP, CALLED = delta("Hi"), delta(finish="stop"), delta(finish="tool_calls")
DONE = sse(b"[DONE]")
END = STOP + DONE
USAGE = {
    "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 9,
    "prompt_tokens_details": {"cached_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 4},
}  # fmt: skip
MINIMAX = body(None, usage=None, base_resp={"status_code": 1008, "status_msg": "no balance"})
FLAT = {"object": "error", "message": "busy", "type": "server_error", "code": 503}
CALLS = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]
RAW = b'{"choices":[{"index":0,"delta":{"content":"!"},'

OPENAI: dict[str, Case] = {
    # Failures that look like success.
    "choices null": (sse(body(None, usage=None)) + DONE, fails()),
    "words beside null": (sse(MINIMAX) + DONE, fails(UNAVAILABLE), ("no balance",)),
    "flat error": (HI + sse(FLAT) + DONE, fails(OVERLOADED, text="Hi")),
    "flat error first": (sse({"code": "Broken", "message": "m"}) + DONE, fails(UNAVAILABLE)),
    "choices empty": (sse(body([], code=429, msg="slow")) + DONE, fails(LIMITED, 429)),
    "role alone": (delta("", role="assistant") + DONE, fails()),
    "usage alone": (sse(body([], usage=USAGE)) + DONE, fails()),
    "end mark alone": (DONE, fails()),
    "nothing": (b"", fails()),
    "a page": (b"<html><p>Bad gateway\n\n</html>", fails()),
    "error object": (HI + sse({"error": {"code": 429}}), fails(LIMITED, text="Hi")),
    "error beside choices": (
        HI + sse(body([{"index": 0, "finish_reason": "stop"}], error={"code": 429})) + DONE,
        fails(LIMITED, text="Hi"),
    ),
    "error text": (HI + sse({"error": "sorry"}), fails(UNAVAILABLE, text="Hi")),
    "error event": (HI + sse(b"gone", "error"), fails(UNAVAILABLE, text="Hi")),
    "error in a choice": (sse(body([{"error": {"code": 503}}])), fails(OVERLOADED, 503)),
    "error as a reason": (HI + delta("", "error") + DONE, fails(UNAVAILABLE, text="Hi")),
    "no end": (HI, fails(text="Hi")),
    "no end of an event": (HI + b'data: {"cho', fails(text="Hi")),
    "no chunk": (HI + sse({"choices": ["x"]}) + END, fails(text="Hi")),
    "no JSON": (HI + sse(b"{x") + END, fails(text="Hi")),
    # Whole answers that are not as the standard has them.
    "a pair over chunks": (delta("hi \ud83d") + delta("\ude00!") + END, says("hi 😀!")),
    "a pair in reasoning": (
        delta(reasoning_content="\ud83d") + delta(reasoning_content="\ude00") + HI + END,
        says("Hi", reasoning="😀"),
    ),
    "a pair in arguments": (
        call("", name="f") + call('{"x":"\ud83d') + call('\ude00"}') + CALLED + DONE,
        says(calls=('{"x":"😀"}',)),
    ),
    "half a pair": (delta("hi \ud83d") + HI + END, says("hi \ufffdHi")),
    "half a pair at the end": (delta("hi \ud83d") + END, says("hi \ufffd")),
    "not UTF-8": (HI + sse(RAW.replace(b"!", b"\xff") + b'"x":1}]}') + END, says("Hi\ufffd")),
    "not UTF-8 in another field": (
        HI + sse(RAW.replace(b"!", b"?") + b'"x":"\xff"}]}') + END, says("Hi?"), ("\ufffd",),
    ),
    "not a number": (HI + sse(RAW + b'"logprobs":NaN}]}') + END, says("Hi!")),
    "several lines of data": (
        b"data: " + RAW + b'\ndata: "finish_reason":null}]}\n\n' + END, says("!"),
    ),
    "no blank line at the end": ((HI + END).rstrip(), says("Hi")),
    "no end mark": (HI + STOP, says("Hi")),
    "no end mark and half an event": (HI + STOP + b'data: {"usage', says("Hi")),
    "no reason": (HI + DONE, says("Hi", None)),
    "a space after the end mark": (HI + STOP + sse(b"[DONE] "), says("Hi")),
    "more after the end mark": (HI + END + HI, says("Hi")),
    "more in the end mark": (HI + STOP + b"data:[DONE]!\n\n", says("Hi")),
    "empty data": (b"data:\n\n" + HI + STOP + b"data: \n\n" + DONE, says("Hi")),
    "keep-alives": (
        b": wait\n\n" + sse({}) + HI + sse({"type": "ping"}, "ping") + END, says("Hi"),
    ),
    "null in mid-stream": (HI + sse(body(None)) + delta("!") + END, says("Hi!")),
    # Another content type than was requested.
    "JSON error": (b'{"error":{"message":"m","code":429}}', fails(LIMITED, 429)),
    "JSON error as events": (b'{"error":{"type":"overloaded_error"}}', fails(OVERLOADED, 503)),
    "JSON error in a list": (b'[{"error":{"code":503}}]', fails(OVERLOADED, 503)),
    "JSON without choices": (dumped(MINIMAX), fails(UNAVAILABLE), ("no balance",)),
    "JSON completion": (plain({"content": "Hi"}), says("Hi")),
    "JSON completion as events": (plain({"content": "Hi"}), says("Hi")),
    "JSON completion after white space": (
        b"\n\n      " + plain({"content": "Hi"}), says("Hi"),
    ),
    "JSON of another format": (dumped(body([{"message": "Hi"}])), fails()),
    "JSON without content": (plain({"content": ""}, None), fails()),
    "JSON calls": (plain({"tool_calls": CALLS}, "tool_calls"), says(calls=('{"a":1}',))),
    "JSON cut": (plain({"content": "Hi"})[:-5], fails()),
    "chunks as JSON": (HI + END, says("Hi")),
    # What the SDKs read.
    "a filter's results first": (
        sse(body([], prompt_filter_results=[1])) + HI
        + sse(body([{"index": 0, "content_filter_offsets": {}}])) + END,
        says("Hi"), ("prompt_filter_results", "content_filter_offsets"),
    ),
    "filtered": (HI + delta(finish="content_filter") + DONE, says("Hi", "content_filter")),
    "a refusal": (delta(refusal="No.") + END, says("No.")),
    "odd parts": (
        delta([{"type": "x", "text": "?"}, {"type": "text"}, {"type": "text", "text": "Hi"}])
        + END, says("Hi"),
    ),
    "parts": (
        delta([{"type": "thinking", "thinking": []}, {"type": "text", "text": "Hi"}]) + END,
        says("Hi"),
    ),
    "reasoning": (delta(reasoning_content="hm") + HI + END, says("Hi", reasoning="hm")),
    "reasoning alone": (delta(reasoning="hm") + END, says(), ('"reasoning":"hm"',)),
    "two calls": (
        call('{"a":', name="f") + call("{}", 1, name="g") + call("1}") + CALLED + DONE,
        says(calls=('{"a":1}', "{}")),
    ),
    "two choices": (
        sse(body([{"index": 0, "delta": {"content": "A"}, "logprobs": {"x": 1}}]))
        + sse(body([{"index": 1, "delta": {"refusal": ""}, "finish_reason": "stop"}])) + END,
        says("A"), ('"index":1', '"logprobs":{"x":1'),
    ),
    "counts": (
        HI + STOP + sse(body([], usage=USAGE)) + DONE, says("Hi"),
        ('"cached_tokens":1', '"reasoning_tokens":4'),
    ),
}  # fmt: skip

OPENAI_PLAIN: dict[str, Case] = {
    "words beside null": (dumped(MINIMAX), fails(UNAVAILABLE), ("no balance",)),
    "choices empty": (dumped(body([])), fails()),
    "an empty object": (b"{}", fails()),
    "a list": (b"[]", fails(UNAVAILABLE)),
    "error in a list": (b'[{"error":{"code":429}}]', fails(LIMITED, 429)),
    "a text": (b'"slow down"', fails(UNAVAILABLE), ("slow down",)),
    "nothing said": (plain({"content": ""}, None), fails()),
    "no message": (dumped(body([{"index": 0}])), fails()),
    "another format": (dumped(body([{"message": "Hi"}])), fails()),
    "a byte order mark": (b"\xef\xbb\xbf" + plain({"content": "Hi"}), says("Hi")),
    "a page as JSON": (b"<html>", fails()),
    "cut": (b'{"choices"', fails()),
    "no choice": (b'{"choices":["x"]}', fails()),
    "flat error": (dumped(FLAT), fails(OVERLOADED, 503)),
    "error": (b'{"error":{"message":"m","code":429}}', fails(LIMITED, 429)),
    "not found": (b'{"error":{"message":"m","code":404}}', fails(INVALID, 404)),
    "error in a choice": (plain({}, "error", error={"code": 503}), fails(OVERLOADED, 503)),
    "error as a reason": (plain({"content": "Hi"}, "error"), fails(UNAVAILABLE)),
    "half a pair": (plain({"content": "hi \ud83d"}), says("hi \ufffd")),
    "not a number": (plain({"content": "Hi"}, logprobs=float("nan")), says("Hi")),
    "not UTF-8": (plain({"content": "Hi?"}).replace(b"?", b"\xff"), says("Hi\ufffd")),
    "a refusal": (plain({"refusal": "No."}), says("No.")),
    "reasoning": (plain({"content": "", "reasoning_content": "hm"}), says(reasoning="hm")),
    "calls": (plain({"tool_calls": CALLS}, "tool_calls"), says(calls=('{"a":1}',))),
}


def event(kind: str, **fields: Any) -> bytes:
    """Write an event of Anthropic's."""
    return sse(dumped({"type": kind, **fields}), kind)


def block(
    index: int, content: dict[str, Any], *deltas: dict[str, Any], stops: bool = True
) -> bytes:
    """Write a content block in full; the type of a delta follows from its first field."""
    kinds = {"text": "text", "thinking": "thinking", "signature": "signature"}
    added = [{"type": f"{kinds.get(next(iter(d)), 'input_json')}_delta", **d} for d in deltas]
    return (
        event("content_block_start", index=index, content_block=content)
        + b"".join(event("content_block_delta", index=index, delta=one) for one in added)
        + (event("content_block_stop", index=index) if stops else b"")
    )


def end(reason: str = "end_turn", **usage: Any) -> bytes:
    """End a message."""
    return event("message_delta", delta={"stop_reason": reason}, usage=usage) + WHOLE


def message(*content: Any, stop_reason: str | None = "end_turn", **fields: Any) -> bytes:
    """Write a whole message."""
    head = {"id": "m", "type": "message", "model": "c", "stop_reason": stop_reason}
    return dumped({**head, "content": content, **fields})


def named(kind: str) -> dict[str, Any]:
    """Write an error of Anthropic's."""
    return {"type": "error", "error": {"type": kind, "message": "m"}}


START = event("message_start", message={"id": "m", "model": "c", "usage": {"input_tokens": 5}})
WHOLE = event("message_stop")
SAID = {"type": "text", "text": "Hi"}
TEXT = block(0, {"type": "text", "text": ""}, {"text": "Hi"})
TOOL = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
SIGNED = {"type": "thinking", "thinking": "hm", "signature": "SIG=="}
EMPTY = {"type": "thinking", "thinking": "", "signature": ""}
THOUGHT = block(0, EMPTY, {"thinking": "h"}, {"thinking": "m"}, {"signature": "SIG=="})
REDACTED = {"type": "redacted_thinking", "data": "ENC"}
HAS_SIGNED = ('"type":"thinking","thinking":"hm","signature":"SIG=="',)
USED: dict[str, Any] = {"output_tokens": 9, "cache_read_input_tokens": 7}

ANTHROPIC: dict[str, Case] = {
    "nothing said": (START + WHOLE, fails()),
    "flat error": (START + sse(FLAT), fails(OVERLOADED, 503)),
    "error": (START + TEXT + sse(named("rate_limit_error"), "error"), fails(LIMITED, text="Hi")),
    "error without a name": (START + sse(named("overloaded_error")), fails(OVERLOADED, 503)),
    "error text": (START + TEXT + sse(b"gone", "error"), fails(UNAVAILABLE, text="Hi")),
    "no end": (START + TEXT, fails(text="Hi")),
    "no JSON": (START + TEXT + sse(b"{x") + end(), fails(text="Hi")),
    "another format": (START + TEXT + sse({"type": 5}) + end(), fails(text="Hi")),
    "a pair over events": (
        START + block(0, SAID, {"text": " \ud83d"}, {"text": "\ude00!"}) + end(), says("Hi 😀!"),
    ),
    "half a pair": (
        START + block(0, SAID, {"text": " \ud83d"}, {"text": "Hi"}) + end(), says("Hi \ufffdHi"),
    ),
    "half a pair at the end": (
        START + block(0, SAID, {"text": "\ud83d"}) + end(), says("Hi\ufffd"),
    ),
    "no blank line at the end": ((START + TEXT + end()).rstrip(), says("Hi")),
    "no end mark": (START + TEXT + end().removesuffix(WHOLE), says("Hi")),
    "another end mark": (
        START + TEXT + end().replace(WHOLE, b"data: [DONE] \n\n"), says("Hi"),
    ),
    "odd events": (
        b"data:\n\n" + sse(b"now", "ping") + START + sse({}) + TEXT + sse(b"la", "song")
        + sse({"type": "song", "delta": {"text": "x"}}) + end(), says("Hi"),
    ),
    "JSON error": (dumped(named("overloaded_error")), fails(OVERLOADED, 503)),
    "JSON error about money": (
        dumped({"error": {"type": "invalid_request_error", "message": OUT_OF_CREDIT[0]}}),
        fails(LIMITED, 429),
    ),
    "JSON error as events": (dumped(named("rate_limit_error")), fails(LIMITED, 429)),
    "JSON message": (message(SAID), says("Hi")),
    "JSON message after a byte order mark": (b"\xef\xbb\xbf" + message(SAID), says("Hi")),
    "JSON call": (
        message({**TOOL, "input": {"a": 1}}, stop_reason="tool_use"), says(calls=('{"a":1}',)),
    ),
    "input at the start": (
        START + block(0, {**TOOL, "input": {"a": 1}}) + end("tool_use"), says(calls=('{"a":1}',)),
    ),
    "null for what is not known": (
        (START + TEXT + end()).replace(b'"usage": {}', b'"usage": null, "index": null')
        .replace(b'"stop_reason"', b'"type": null, "stop_reason"'), says("Hi"),
    ),
    "input and no stop": (
        START + block(0, {**TOOL, "input": {"a": 1}}, stops=False) + end("tool_use"),
        says(calls=('{"a":1}',)),
    ),
    "no input": (
        START + block(0, TOOL, {"partial_json": ""}) + end("tool_use"), says(calls=("{}",)),
    ),
    "two calls": (
        START + TEXT + block(1, TOOL, {"partial_json": '{"a":'}, {"partial_json": "1}"})
        + block(2, {**TOOL, "type": "server_tool_use"}, {"partial_json": "{}"})
        + block(3, {**TOOL, "input": {"b": 2}}) + end("tool_use"),
        says("Hi", calls=('{"a":1}', '{"b":2}')),
    ),
    "signed thinking": (START + THOUGHT + TEXT + end(), says("Hi", reasoning="hm"), HAS_SIGNED),
    "thinking at the start": (
        START + block(0, SIGNED) + TEXT + end(), says("Hi", reasoning="hm"), HAS_SIGNED,
    ),
    "redacted thinking": (
        START + block(0, REDACTED) + TEXT + end(), says("Hi"),
        ('"redacted_thinking","data":"ENC"',),
    ),
    "counts": (
        START + TEXT + end(**USED, output_tokens_details={"thinking_tokens": 4}), says("Hi"),
        ('"prompt_tokens":12', '"cached_tokens":7', '"reasoning_tokens":4'),
    ),
    **{
        reason: (START + TEXT + end(reason), says("Hi", finish))
        for reason, finish in (
            ("refusal", "content_filter"), ("max_tokens", "length"), ("of_the_future", "stop"),
            ("model_context_window_exceeded", "length"),
        )
    },
}  # fmt: skip

ANTHROPIC_PLAIN: dict[str, Case] = {
    "error": (dumped(named("rate_limit_error")), fails(LIMITED, 429)),
    "flat error": (dumped(FLAT), fails(OVERLOADED, 503)),
    "an empty object": (b"{}", fails()),
    "no block": (message("text"), fails()),
    "nothing said": (message(stop_reason=None), fails()),
    "half a pair": (message({**SAID, "text": "hi \ud83d"}), says("hi \ufffd")),
    "calls": (
        message(SAID, {**TOOL, "input": {"a": 1}}, {"type": "song"}, stop_reason="tool_use"),
        says("Hi", calls=('{"a":1}',)),
    ),
    "thinking": (message(SIGNED, REDACTED, SAID), says("Hi", reasoning="hm"), HAS_SIGNED),
    "counts": (message(SAID, usage=USED), says("Hi"), ('"cached_tokens":7',)),
}


@asynccontextmanager
async def serving(upstream: FakeUpstream, wire: str, **more: Any) -> AsyncIterator[RunningService]:
    """Run the service with this upstream as its provider, without retries."""
    urls = {"openai_base_url": upstream.base_url, "anthropic_base_url": upstream.origin}
    async with serve(llm_provider=wire, llm_model="m", **urls, **more) as service:
        service.services.provider._retry = Retry(attempts=1)  # type: ignore[attr-defined]
        yield service


Route = Callable[[RunningService, Outcome], Awaitable[str]]


async def streamed(service: RunningService, got: Outcome) -> str:
    """Ask `/v1` for a stream; return what came."""
    raw = ""
    options: Any = {"stream": True, "stream_options": {"include_usage": True}}
    async for chunk in await service.openai.chat.completions.create(**COMPLETION, **options):
        raw += chunk.to_json(indent=None, warnings=False)
        for choice in chunk.choices:
            if choice.index == 0:
                note(got, choice.delta, choice.finish_reason)
    return raw


async def unstreamed(service: RunningService, got: Outcome) -> str:
    """Ask `/v1` for a whole completion; return what came."""
    answer = await service.openai.chat.completions.create(**COMPLETION)
    note(got, answer.choices[0].message, answer.choices[0].finish_reason)
    return str(answer.to_json(indent=None, warnings=False))


def note(got: Outcome, added: Any, finish_reason: str | None) -> None:
    """Add up what the SDK reads."""
    got.finish = finish_reason or got.finish
    if added is None:
        return
    content = added.content or added.refusal or ""
    got.text += content if isinstance(content, str) else content[-1]["text"]
    got.reasoning += getattr(added, "reasoning_content", None) or ""
    calls = dict(enumerate(got.calls))
    for at, called in enumerate(added.tool_calls or ()):
        index = getattr(called, "index", at)
        calls[index] = calls.get(index, "") + (called.function.arguments or "")
    got.calls = tuple(calls.values())


async def chat(service: RunningService, got: Outcome) -> str:
    """Ask `/chat`, which has no calls and gives out no reasoning."""
    async with service.client.stream("POST", "/chat", json=QUESTION) as response:
        if response.is_error:
            error = json.loads(await response.aread())["error"]
            got.error, got.status = error["type"], response.status_code
            return ""
        async for one in events_of(response):
            got.text += one.data.get("text", "")
            got.finish = one.data.get("finish_reason", got.finish)
            got.error = one.data.get("type")
    return ""


@pytest.mark.parametrize(
    ("wire", "route", "name", "case"),
    [
        pytest.param(wire, route, name, case, id=f"{wire} {route.__name__}: {name}")
        for wire, table, routes in (
            ("openai", OPENAI, (streamed, chat)),
            ("openai", OPENAI_PLAIN, (unstreamed,)),
            ("anthropic", ANTHROPIC, (streamed, chat)),
            ("anthropic", ANTHROPIC_PLAIN, (unstreamed,)),
        )
        for name, case in table.items()
        for route in routes
    ],
)
async def test_answers(
    upstream: FakeUpstream, wire: str, route: Route, name: str, case: Case
) -> None:
    """No answer that the SDKs would read is refused, and no failure is passed off as one."""
    sent, wanted, *given_out = case
    is_json = sent.lstrip().startswith((b"{", b"[")) is not name.endswith(
        (" as events", " as JSON")
    )
    headers = {"content-type": "application/json" if is_json else "text/event-stream"}
    upstream.script = Script(body=sent, headers=headers, chunk_size=5 if route is chat else None)
    got, raw = Outcome(), ""
    async with serving(upstream, wire) as service:
        try:
            raw = await route(service, got)
        except openai.APIError as error:
            got.error, raw = error.type, str(error)
            got.status = getattr(error, "status_code", None)
        await service.idle()
    if route is chat:
        finish = None if wanted.error else wanted.finish or "stop"
        wanted, given_out = replace(wanted, finish=finish, calls=(), reasoning=""), []
    assert got == wanted
    assert all(part in raw.replace('": ', '":').replace(", ", ",") for part in sum(given_out, ()))
    assert upstream.counts.received == 1


@pytest.mark.parametrize("status", [201, 202])
async def test_another_good_status(upstream: FakeUpstream, status: int) -> None:
    """An answer under any 2xx is an answer: some gateways create one."""
    upstream.script = Script(status=status, body=plain({"content": "Hi"}))
    async with serving(upstream, "openai") as service:
        for route in (streamed, unstreamed):
            got = Outcome()
            await route(service, got)
            assert got == says("Hi")


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        ({"error": {"code": 429}}, LIMITED),
        ({"data": [], "message": "m", "code": 503}, OVERLOADED),
        ({}, BROKEN),
    ],
)
async def test_no_vectors(upstream: FakeUpstream, sent: Any, error: str) -> None:
    """An answer without embeddings is an error, whatever its status."""
    upstream.script = Script(body=dumped(sent))
    async with serving(upstream, "openai") as service:
        with pytest.raises(openai.APIError) as caught:
            await service.openai.embeddings.create(model="m", input="x")
    assert caught.value.type == error


async def test_thinking_survives_a_tool_call(upstream: FakeUpstream) -> None:
    """Signed blocks come back first in the turn, as Anthropic wrote them."""
    sent = START + THOUGHT + block(1, TOOL) + end("tool_use")
    upstream.script = Script(body=sent, headers={"content-type": "text/event-stream"})
    async with serving(upstream, "anthropic") as service:
        create = service.openai.chat.completions.create
        async with service.openai.chat.completions.stream(**COMPLETION) as stream:
            answer: Any = (await stream.get_final_completion()).choices[0].message.to_dict()
        upstream.script = Script()
        for turn in (answer, {**answer, "content": [REDACTED]}):
            result: Any = {"role": "tool", "tool_call_id": "t", "content": "r"}
            messages: Any = [*QUESTION["messages"], turn, result]
            await create(model="m", messages=messages)
    first, second = (request.json["messages"][1] for request in list(upstream.requests)[1:])
    assert first["content"] == [SIGNED, TOOL]
    assert second["content"] == [SIGNED, REDACTED, TOOL]


NO_MODELS: list[Any] = [{"data": None}, {"object": "list"}, None, []]
MODEL = {"id": "m1", "object": "model", "created": 1, "type": "chat"}


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("status", "listed", "names"),
    [
        (200, [MODEL], ["m1"]),
        (200, {"data": [MODEL, None]}, ["m1"]),
        *((200, empty, ["m"]) for empty in NO_MODELS),
        (404, {"detail": "Not Found"}, ["m"]),
        (405, {"error": "Method not allowed"}, ["m"]),
    ],
)
async def test_models(
    upstream: FakeUpstream, wire: str, status: int, listed: Any, names: list[str]
) -> None:
    """A list in any shape is a list; a provider without one offers the configured model."""
    upstream.script = Script(status=status, body=dumped(listed))
    async with serving(upstream, wire) as service:
        assert [model.id async for model in service.openai.models.list()] == names


MEBIBYTE = 1024 * 1024


@pytest.mark.parametrize(
    ("event", "header", "detail"),
    [
        (16 * MEBIBYTE, 32 * 1024, None),
        (24 * MEBIBYTE, 0, "over max_event_bytes, 20971520"),
        (0, 128 * 1024, "Got more than 65536 bytes"),
    ],
)
async def test_sizes(
    upstream: FakeUpstream,
    capsys: pytest.CaptureFixture[str],
    event: int,
    header: int,
    detail: str | None,
) -> None:
    """An event of 16 MiB and a header of 32 KiB pass; beyond that the log names the bound."""
    picture = delta(images=["A" * event])
    upstream.script = Script(body=picture + HI + END, headers={"x-trace": "a" * header})
    got = Outcome()
    async with serving(upstream, "openai") as service:
        await chat(service, got)
    assert got == (fails() if detail else says("Hi"))
    assert (detail or "") in capsys.readouterr().err


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_starts_the_answer(upstream: FakeUpstream, field: str) -> None:
    """`/chat` starts with a ping when the provider reasons, and says nothing of it."""
    opening = delta("", role="assistant") + delta(**{field: "hm"})
    upstream.script = Script(body=opening + HI + END, at_byte={len(opening): Action.HOLD})
    async with (
        serving(upstream, "openai") as service,
        service.client.stream("POST", "/chat", json=QUESTION) as response,
    ):
        received = response.aiter_bytes()
        assert await anext(received) == b": ping\n\n"
        upstream.release()
        rest = b"".join([part async for part in received])
    assert rest.startswith(b'event: token\ndata: {"text":"Hi"}')
    assert b"hm" not in rest


@pytest.mark.parametrize("value", [-1, 0, "inf", 2**40])
async def test_limits_pass(upstream: FakeUpstream, value: Any) -> None:
    """A maximum that the provider may understand is its own to judge, also under a budget."""
    async with serving(upstream, "openai", rate_limit_tokens=10**13) as service:
        body = {**COMPLETION, "max_tokens": value}
        assert (await service.client.post("/v1/chat/completions", json=body)).is_success
    assert upstream.requests[0].json["max_tokens"] == value
