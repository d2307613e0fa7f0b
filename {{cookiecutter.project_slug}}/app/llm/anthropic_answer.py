"""Answers of Anthropic's Messages API as OpenAI completions and chunks.

Text becomes content, client tools become tool calls, thinking becomes
`reasoning_content` (an extension that many servers and clients share), an explained refusal
becomes a refusal. Everything else, also events and blocks that do not exist yet, is
passed over, as Anthropic's versioning policy asks.

Needs: pydantic-core (its JSON writer), `base.py` beside it.
Source: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from collections.abc import Callable, Mapping
from typing import ClassVar

from pydantic_core import to_json

from .base import Chunk, JSONObject, are_counts

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
COUNTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")


class ChunkTranslator:
    """Turn the events of one streamed answer into chunks.

    `created` is the time of the answer in seconds since the epoch; `ended` says whether
    the end mark was among the events. An event that is not in Anthropic's format leads to
    a KeyError, TypeError or AttributeError.
    """

    def __init__(self, *, created: int) -> None:
        self.ended = False
        self._head: JSONObject = {
            "id": "", "object": "chat.completion.chunk", "created": created, "model": "",
        }  # fmt: skip
        self._usage: JSONObject = {}
        self._tool_calls: dict[int, int] = {}
        self._without_arguments: set[int] = set()

    def chunk(self, event: JSONObject) -> Chunk | None:
        """Translate one event; None if it says nothing to an OpenAI client."""
        translate = self._EVENTS.get(event["type"])
        return translate(self, event) if translate else None

    def _message_starts(self, event: JSONObject) -> Chunk:
        message = event["message"]
        self._head |= {"id": message["id"], "model": message["model"]}
        self._take_usage(message)
        return self._chunk({"role": "assistant", "content": ""})

    def _block_starts(self, event: JSONObject) -> Chunk | None:
        index, block = event["index"], event["content_block"]
        if block["type"] == "text" and block.get("text"):
            return self._chunk({"content": block["text"]})
        if block["type"] != "tool_use":
            return None
        self._tool_calls[index] = position = len(self._tool_calls)
        self._without_arguments.add(index)
        function = {"name": block["name"], "arguments": ""}
        call = {"index": position, "id": block["id"], "type": "function", "function": function}
        return self._chunk({"tool_calls": [call]})

    def _block_goes_on(self, event: JSONObject) -> Chunk | None:
        delta = event["delta"]
        match delta["type"]:
            case "text_delta":
                return self._chunk({"content": delta["text"]})
            case "thinking_delta":
                return self._chunk({"reasoning_content": delta["thinking"]})
            case "input_json_delta" if event["index"] in self._tool_calls:
                return self._arguments(event["index"], delta["partial_json"])
        return None

    def _block_stops(self, event: JSONObject) -> Chunk | None:
        """Give a call without arguments the empty object that OpenAI's clients parse."""
        index = event["index"]
        return self._arguments(index, "{}") if index in self._without_arguments else None

    def _arguments(self, index: int, piece: str) -> Chunk | None:
        if not piece:
            return None
        self._without_arguments.discard(index)
        call = {"index": self._tool_calls[index], "function": {"arguments": piece}}
        return self._chunk({"tool_calls": [call]})

    def _message_ends(self, event: JSONObject) -> Chunk | None:
        self._take_usage(event)
        reason = event["delta"].get("stop_reason")
        if reason is None:
            return None
        refusal = _refusal(event["delta"])
        return self._chunk({"refusal": refusal} if refusal else {}, finish_reason(reason))

    def _take_usage(self, part: JSONObject) -> None:
        """Note the counts so far: each event repeats only those that it knows."""
        counts = part.get("usage")
        if isinstance(counts, dict):
            self._usage |= {name: count for name, count in counts.items() if count is not None}

    def _stops(self, _: JSONObject) -> Chunk | None:
        self.ended = True
        counted = usage(self._usage)
        return Chunk({**self._head, "choices": [], "usage": counted}) if counted else None

    def _chunk(self, delta: JSONObject, finish_reason: str | None = None) -> Chunk:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return Chunk({**self._head, "choices": [choice], "usage": None})

    _EVENTS: ClassVar[Mapping[str, Callable[["ChunkTranslator", JSONObject], Chunk | None]]] = {
        "message_start": _message_starts,
        "content_block_start": _block_starts,
        "content_block_delta": _block_goes_on,
        "content_block_stop": _block_stops,
        "message_delta": _message_ends,
        "message_stop": _stops,
    }


def completion(message: JSONObject, *, created: int) -> JSONObject:
    """Translate a whole message; what is not in Anthropic's format leads to a KeyError."""
    blocks = message["content"]
    calls = [_tool_call(block) for block in blocks if block["type"] == "tool_use"]
    text = "".join(block["text"] for block in blocks if block["type"] == "text")
    thinking = "".join(block["thinking"] for block in blocks if block["type"] == "thinking")
    answer = {
        "role": "assistant",
        "content": None if calls and not text else text,
        "refusal": _refusal(message),
        **({"tool_calls": calls} if calls else {}),
        **({"reasoning_content": thinking} if thinking else {}),
    }
    reason = finish_reason(message["stop_reason"])
    choice = {"index": 0, "message": answer, "logprobs": None, "finish_reason": reason}
    return {
        "id": message["id"],
        "object": "chat.completion",
        "created": created,
        "model": message["model"],
        "choices": [choice],
        "usage": usage(message.get("usage")),
    }


def _tool_call(block: JSONObject) -> JSONObject:
    function = {"name": block["name"], "arguments": to_json(block["input"]).decode()}
    return {"id": block["id"], "type": "function", "function": function}


def _refusal(ended: JSONObject) -> str | None:
    details = ended.get("stop_details") or {}
    return details.get("explanation") if details.get("type") == "refusal" else None


def finish_reason(stop_reason: str) -> str:
    """Name why the answer ended; a reason that does not exist yet counts as a plain end."""
    return FINISH_REASONS.get(stop_reason, "stop")


def usage(counts: object) -> JSONObject | None:
    """Translate token counts; None, unknown, where there are none or they make no sense.

    Anthropic counts cached input beside the rest, OpenAI within.
    """
    if not counts or not isinstance(counts, dict) or not are_counts(*map(counts.get, COUNTS)):
        return None
    uncached, cached, written, answer = (counts.get(name) or 0 for name in COUNTS)
    prompt = uncached + cached + written
    details = counts.get("output_tokens_details")
    thinking = details.get("thinking_tokens") if isinstance(details, dict) else None
    of_answer = {} if thinking is None else {"reasoning_tokens": thinking}
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "completion_tokens_details": of_answer,
    }
