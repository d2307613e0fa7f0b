"""Answers in OpenAI's format; JSON is sent as JSON, events as events, unless a name differs."""

from typing import Any

from tests.api.answers import (
    FLAT,
    INVALID,
    LIMITED,
    OVERLOADED,
    UNAVAILABLE,
    Case,
    dumped,
    fails,
    says,
)
from tests.service import SERVICE_KEY
from tests.upstream import sse


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
    "too deep": (HI + sse(b'{"x":' + b"[" * 100_000) + END, fails(text="Hi")),
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
    "too deep": (b'{"x":' + b"[" * 600 + b"]" * 600 + b"}", fails()),
    "an error too deep": (b'{"error":' * 100_000, fails()),
    "the key of the service": (
        dumped({"code": "Bad", "message": f"bad key {SERVICE_KEY}"}),
        fails(UNAVAILABLE),
        ("bad key …",),
    ),
    "half a pair in a name": (plain({"content": "Hi", "\ud83d": 1}), says("Hi")),
    "an empty object": (b"{}", fails()),
    "a list": (b"[]", fails(UNAVAILABLE)),
    "error in a list": (b'[{"error":{"code":429}}]', fails(LIMITED, 429)),
    "a text": (b'"slow down"', fails(UNAVAILABLE), ("slow down",)),
    "no content": (plain({"content": ""}, None), fails()),
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
