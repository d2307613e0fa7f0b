"""Anthropic's Messages API behind the provider protocol.

Text becomes content, client tools become tool calls, thinking becomes `reasoning_content` (an
extension that many servers and clients share). Other blocks and unknown events are skipped, as
Anthropic's versioning policy asks. Requests are translated in `anthropic_request.py`.

Needs: pydantic-core (its JSON writer), `anthropic_request.py`, `transport.py`, `sse.py`, `base.py`.
Source: https://platform.claude.com/docs/en/api/messages
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from time import time

from pydantic_core import to_json

from .anthropic_request import messages_request
from .base import (
    BrokenStreamError,
    Chunk,
    ChunkStream,
    JSONObject,
    ProviderError,
    ProviderRateLimitedError,
    ProviderRejectedError,
    are_counts,
)
from .sse import ServerSentEvent
from .transport import HTTPProvider

# The later 2026-10-21 refuses `temperature` and `top_p` for older models too, and adds nothing.
API_VERSION = "2023-06-01"
MODELS_PATH = "/v1/models?limit=1000"  # the longest page; the default is 20 models

# An account without money gets "invalid_request_error" (400); only the message tells it apart.
OUT_OF_CREDIT = (
    "Your credit balance is too low",
    "You have reached your specified API usage limits",
)
FINISH_REASONS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""All other stop reasons are "stop"."""
COUNTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
MALFORMED = (AttributeError, KeyError, TypeError, ValueError)


@dataclass(eq=False, repr=False)
class AnthropicProvider(HTTPProvider):
    """Anthropic, or a server that speaks its format, behind `base_url` (with `/v1` or without)."""

    name: str = "anthropic"

    def _headers(self) -> dict[str, str]:
        key = {"x-api-key": self.api_key} if self.api_key else {}
        return {"anthropic-version": API_VERSION, **key}

    def _url(self, path: str) -> str:
        return self.base_url.rstrip("/").removesuffix("/v1") + path

    def stream(self, request: JSONObject) -> AbstractAsyncContextManager[ChunkStream]:
        """Open a streamed message; see `Provider.stream`."""
        answer = _Answer()

        def decode(event: ServerSentEvent) -> list[Chunk] | None:
            message = self._parse(event.data)
            if event.event == "error" or message.get("type") == "error":
                raise self._answer_error(message)
            if message.get("type") == "message_stop":
                return None
            try:
                return answer.chunks(message)
            except MALFORMED as error:
                raise self._malformed("an event") from error

        return self._stream("/v1/messages", {**messages_request(request), "stream": True}, decode)

    async def complete(self, request: JSONObject) -> JSONObject:
        """Request a whole message; see `Provider.complete`."""
        body = {**messages_request(request), "stream": False}
        message = await self._json("POST", "/v1/messages", body)
        try:
            return _completion(message)
        except MALFORMED as error:
            raise self._malformed("a message") from error

    async def embed(self, request: JSONObject) -> JSONObject:  # noqa: ARG002
        """Refuse: Anthropic has no embeddings."""
        raise ProviderRejectedError(f"{self.name} has no embeddings endpoint: use another provider")

    async def models(self) -> list[JSONObject]:
        """List the models; see `Provider.models`."""
        page = await self._json("GET", MODELS_PATH)
        try:
            return [_model(model) for model in page["data"]]
        except MALFORMED as error:
            raise self._malformed("a list of models") from error

    def _kind_of(self, details: Mapping[str, object]) -> type[ProviderError] | None:
        """Tell an empty account from a bad request, so that another provider may answer."""
        if str(details.get("message")).startswith(OUT_OF_CREDIT):
            return ProviderRateLimitedError
        return super()._kind_of(details)

    def _malformed(self, what: str) -> BrokenStreamError:
        return BrokenStreamError(f"{self.name} sent {what} that is not in Anthropic's format")


class _Answer:
    """One streamed answer: turns its events into chunks.

    Anthropic numbers all blocks, OpenAI the tool calls alone: `_tool_calls` maps one to the other.
    """

    def __init__(self) -> None:
        self._head = _head({"id": "", "model": ""}, "chat.completion.chunk")
        self._usage: JSONObject = {}
        self._tool_calls: dict[int, int] = {}
        self._without_arguments: set[int] = set()

    def chunks(self, event: JSONObject) -> list[Chunk]:
        """Translate one event; raises one of MALFORMED."""
        match event["type"]:
            case "message_start":
                message = event["message"]
                self._head = _head(message, "chat.completion.chunk")
                self._note_usage(message)
                return self._chunk({"role": "assistant", "content": ""})
            case "content_block_start":
                return self._block_start(event["index"], event["content_block"])
            case "content_block_delta":
                return self._block_delta(event["index"], event["delta"])
            case "content_block_stop" if event["index"] in self._without_arguments:
                return self._arguments(event["index"], "{}")  # OpenAI's clients parse them as JSON
            case "message_delta":
                return self._message_delta(event)
        return []

    def _block_start(self, index: int, block: JSONObject) -> list[Chunk]:
        """Open a block; some servers send its text with it already."""
        if block["type"] == "text" and block.get("text"):
            return self._chunk({"content": block["text"]})
        if block["type"] != "tool_use":
            return []
        self._tool_calls[index] = position = len(self._tool_calls)
        self._without_arguments.add(index)
        function = {"name": block["name"], "arguments": ""}
        call = {"index": position, "id": block["id"], "type": "function", "function": function}
        return self._chunk({"tool_calls": [call]})

    def _block_delta(self, index: int, delta: JSONObject) -> list[Chunk]:
        """Add to a block; signatures and citations have no place in OpenAI's format."""
        match delta["type"]:
            case "text_delta":
                return self._chunk({"content": delta["text"]})
            case "thinking_delta":
                return self._chunk({"reasoning_content": delta["thinking"]})
            case "input_json_delta" if index in self._tool_calls and delta["partial_json"]:
                return self._arguments(index, delta["partial_json"])
        return []

    def _arguments(self, index: int, piece: str) -> list[Chunk]:
        """Add to the arguments of the call in the block of this index."""
        self._without_arguments.discard(index)
        call = {"index": self._tool_calls[index], "function": {"arguments": piece}}
        return self._chunk({"tool_calls": [call]})

    def _message_delta(self, event: JSONObject) -> list[Chunk]:
        """End the answer with its reason, and give out its usage so far."""
        self._note_usage(event)
        stop_reason = event["delta"].get("stop_reason")
        ending = [] if stop_reason is None else self._chunk({}, _finish_reason(stop_reason))
        usage = _usage(self._usage)
        return [*ending, Chunk({**self._head, "choices": [], "usage": usage})] if usage else ending

    def _note_usage(self, part: JSONObject) -> None:
        """Note the counts so far: each event repeats only those that it knows."""
        counts = part.get("usage")
        if isinstance(counts, dict):
            self._usage |= {name: count for name, count in counts.items() if count is not None}

    def _chunk(self, delta: JSONObject, finish_reason: str | None = None) -> list[Chunk]:
        """Make one chunk that adds `delta`."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return [Chunk({**self._head, "choices": [choice], "usage": None})]


def _completion(message: JSONObject) -> JSONObject:
    """Translate a whole message; raises one of MALFORMED."""
    blocks = message["content"]
    calls = [_tool_call(block) for block in blocks if block["type"] == "tool_use"]
    text = "".join(block["text"] for block in blocks if block["type"] == "text")
    thinking = "".join(block["thinking"] for block in blocks if block["type"] == "thinking")
    answer = {
        "role": "assistant",
        "content": None if calls and not text else text,
        "refusal": None,
        **({"tool_calls": calls} if calls else {}),
        **({"reasoning_content": thinking} if thinking else {}),
    }
    reason = _finish_reason(message["stop_reason"])
    choice = {"index": 0, "message": answer, "logprobs": None, "finish_reason": reason}
    usage = _usage(message.get("usage"))
    return {**_head(message, "chat.completion"), "choices": [choice], "usage": usage}


def _head(message: JSONObject, kind: str) -> JSONObject:
    return {
        "id": message["id"],
        "object": kind,
        "created": int(time()),
        "model": message["model"],
    }


def _tool_call(block: JSONObject) -> JSONObject:
    """Translate a call; its arguments are an object here, JSON text at OpenAI."""
    function = {"name": block["name"], "arguments": to_json(block["input"]).decode()}
    return {"id": block["id"], "type": "function", "function": function}


def _finish_reason(stop_reason: str) -> str:
    return FINISH_REASONS.get(stop_reason, "stop")


def _usage(counts: object) -> JSONObject | None:
    """Translate token counts; None, unknown, where there are none or they make no sense.

    Anthropic counts cached input beside the rest, OpenAI within.
    """
    if not counts or not isinstance(counts, dict) or not are_counts(*map(counts.get, COUNTS)):
        return None
    uncached, cached, written, completion = (counts.get(name) or 0 for name in COUNTS)
    prompt = uncached + cached + written
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _model(model: JSONObject) -> JSONObject:
    """Translate a model; its date is RFC 3339 here, seconds since the epoch at OpenAI."""
    created = int(datetime.fromisoformat(model["created_at"]).timestamp())
    return {"id": model["id"], "object": "model", "created": created, "owned_by": "anthropic"}
