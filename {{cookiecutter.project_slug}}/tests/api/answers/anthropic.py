"""Answers in the format of Anthropic's Messages API."""

from typing import Any

from app.llm.failures import OUT_OF_CREDIT
from tests.api.answers import FLAT, LIMITED, OVERLOADED, UNAVAILABLE, Case, dumped, fails, says
from tests.upstream import sse


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
    "no content": (START + WHOLE, fails()),
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
    "no content": (message(stop_reason=None), fails()),
    "half a pair": (message({**SAID, "text": "hi \ud83d"}), says("hi \ufffd")),
    "calls": (
        message(SAID, {**TOOL, "input": {"a": 1}}, {"type": "song"}, stop_reason="tool_use"),
        says("Hi", calls=('{"a":1}',)),
    ),
    "thinking": (message(SIGNED, REDACTED, SAID), says("Hi", reasoning="hm"), HAS_SIGNED),
    "counts": (message(SAID, usage=USED), says("Hi"), ('"cached_tokens":7',)),
}
