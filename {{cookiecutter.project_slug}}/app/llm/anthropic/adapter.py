"""Anthropic's Messages API behind the provider protocol.

Text becomes content, client tools become tool calls, thinking becomes `reasoning_content`, and its
signed blocks `thinking_blocks` (extensions that many servers and clients share). Other blocks and
unknown events are skipped, as Anthropic's versioning policy asks. Requests are translated in
`request.py`.

Needs: msgspec, `request.py`, `transport.py`, `sse.py`, `base.py`.
Source: https://platform.claude.com/docs/en/api/messages
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from time import time
from typing import Any

from msgspec import Struct, ValidationError, convert
from msgspec.json import Decoder, encode

from app.llm.answer import AnswerReader
from app.llm.base import (
    BrokenStreamError,
    Chunk,
    Count,
    JSONObject,
    ProviderRejectedError,
    read_counts,
    without_nulls,
)
from app.llm.failures import says_why
from app.llm.transport import HTTPProvider

from .request import messages_request

# The later 2026-10-21 refuses `temperature` and `top_p` for older models too, and adds nothing.
API_VERSION = "2023-06-01"

FINISH_REASONS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""All other stop reasons are "stop"."""
EVENTS = frozenset(
    {
        "message",  # the name of an event without one
        "message_start", "content_block_start", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop",
    }
)  # fmt: skip


class _Block(Struct):
    """A content block, or what an event adds to one."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    data: Any = None
    id: Any = None
    name: Any = None
    input: Any = None


class _Message(Struct):
    id: Any = ""
    model: Any = ""
    content: list[_Block] | None = None
    stop_reason: str | None = None
    usage: Any = None


class _Event(Struct):
    type: str = ""
    index: int | None = None
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Block | None = None
    usage: Any = None
    error: Any = None


class _Usage(Struct):
    input_tokens: Count = 0
    cache_read_input_tokens: Count = 0
    cache_creation_input_tokens: Count = 0
    output_tokens: Count = 0
    output_tokens_details: Any = None


decode = Decoder(_Event).decode


@dataclass(eq=False, repr=False)
class AnthropicProvider(HTTPProvider):
    """Anthropic, or a server that speaks its format, behind `base_url` (with `/v1` or without)."""

    name: str = "anthropic"
    path: str = "/v1/messages"
    models_path: str = "/v1/models?limit=1000"  # the longest page; the default is 20 models

    def _headers(self) -> dict[str, str]:
        key = {"x-api-key": self.api_key} if self.api_key else {}
        return {"anthropic-version": API_VERSION, **key}

    def _url(self, path: str) -> str:
        return self.base_url.rstrip("/").removesuffix("/v1") + path

    def _body(self, request: JSONObject, *, stream: bool) -> JSONObject:
        return {**messages_request(request), "stream": stream}

    def _reader(self) -> AnswerReader:
        return _Answer(self)

    def _completion(self, body: JSONObject) -> JSONObject:
        try:
            message = convert(body, _Message)
        except ValidationError as error:
            raise BrokenStreamError(f"{self.name} sent a malformed message: {error}") from error
        if body.get("error") or not (message.content or message.stop_reason):
            raise self.answer_error(body)
        choice = {
            "index": 0,
            "message": _assistant(message.content or []),
            "logprobs": None,
            "finish_reason": _finish_reason(message.stop_reason),
        }
        head = _head(message, "chat.completion")
        return {**head, "choices": [choice], "usage": _usage(message.usage)}

    async def embed(self, request: JSONObject) -> JSONObject:  # noqa: ARG002
        """Refuse: Anthropic has no embeddings."""
        raise ProviderRejectedError(f"{self.name} has no embeddings endpoint: use another provider")

    def _model(self, model: JSONObject) -> JSONObject:
        """Translate a model; its date is RFC 3339 here, seconds since the epoch at OpenAI."""
        created = 0
        with suppress(ValueError):
            created = int(datetime.fromisoformat(str(model.get("created_at"))).timestamp())
        return {"id": model.get("id"), "object": "model", "created": created, "owned_by": self.name}


@dataclass(slots=True)
class _Open:
    """A block that has not ended, and its place: OpenAI numbers the tool calls alone."""

    block: _Block
    place: int
    pieces: list[str] = field(default_factory=list)


class _Answer(AnswerReader):
    """Reads one streamed answer."""

    def __init__(self, source: HTTPProvider) -> None:
        super().__init__(source)
        self._head = _head(_Message(), "chat.completion.chunk")
        self._usage: JSONObject = {}
        self._open: dict[int | None, _Open] = {}
        self._places = {"tool_use": 0, "thinking": 0}

    def read(self, name: str, data: bytes) -> Sequence[Chunk] | None:
        """See `AnswerReader.read`."""
        if name not in EVENTS:
            return ()
        message = self._decoded(data)
        if message.type == "message_stop":
            return None
        if message.error or (message.type not in EVENTS and says_why(data)):
            raise self.source.answer_error(data)
        return self._chunks(message)

    def _decoded(self, data: bytes) -> _Event:
        try:
            return decode(data)
        except (ValueError, RecursionError):  # another format, or text that is not Unicode
            body = self.source.parse(data)
        try:
            return convert(body, _Event)
        except ValidationError as error:
            raise self.source.answer_error(body) from error

    def _chunks(self, event: _Event) -> list[Chunk]:
        """Translate one event."""
        match event:
            case _Event(type="message_start", message=_Message() as message):
                self._head = _head(message, "chat.completion.chunk")
                self._note_usage(message.usage)
                return self._chunk({"role": "assistant", "content": ""})
            case _Event(type="content_block_start", content_block=_Block() as block):
                return self._start(event.index, block)
            case _Event(type="content_block_delta", delta=_Block() as delta):
                return self._add(event.index, delta)
            case _Event(type="content_block_stop"):
                return self._stop(event.index)
            case _Event(type="message_delta"):
                return self._end(event.delta.stop_reason if event.delta else None, event.usage)
        return []

    def _start(self, index: int | None, block: _Block) -> list[Chunk]:
        """Open a block; some servers send all that is in it already."""
        kind = (block.type or "").removeprefix("redacted_")
        if kind not in self._places:
            return self._add(index, _Block(text=block.text)) if kind == "text" else []
        opened = self._open[index] = _Open(block, self._places[kind])
        self._places[kind] += 1
        if kind == "thinking":
            return self._add(index, _Block(thinking=block.thinking))
        function = {"name": block.name, "arguments": ""}
        return self._call(opened, id=block.id, type="function", function=function)

    def _add(self, index: int | None, delta: _Block) -> list[Chunk]:
        """Add to a block; citations have no place in OpenAI's format."""
        if delta.text:
            return self._chunk({"content": delta.text})
        opened = self._open.get(index)
        if opened is None:
            return []
        opened.block.signature = delta.signature or opened.block.signature
        piece = delta.thinking or delta.partial_json
        if not piece:
            return []
        opened.pieces.append(piece)
        if delta.thinking:
            return self._chunk({"reasoning_content": piece})
        return self._call(opened, function={"arguments": piece})

    def _stop(self, index: int | None) -> list[Chunk]:
        """End a block: a call whose arguments came whole gets them, thinking its signature."""
        opened = self._open.pop(index, None)
        if opened is None:
            return []
        if opened.block.type == "tool_use":
            function = {"arguments": _arguments(opened.block)}
            return [] if opened.pieces else self._call(opened, function=function)
        opened.block.thinking = "".join(opened.pieces)
        thoughts = [{"index": opened.place, **thought} for thought in _thoughts([opened.block])]
        return self._chunk({"thinking_blocks": thoughts}) if thoughts else []

    def _end(self, stop_reason: str | None, usage: object) -> list[Chunk]:
        """End the answer with its reason, and give out its usage so far."""
        self._note_usage(usage)
        chunks: list[Chunk] = []
        if stop_reason is not None:
            for index in tuple(self._open):  # some servers end no block
                chunks += self._stop(index)
            chunks += self._chunk({}, _finish_reason(stop_reason))
        if counts := _usage(self._usage):
            chunks.append(self.chunk({**self._head, "choices": [], "usage": counts}))
        return chunks

    def _note_usage(self, counts: object) -> None:
        """Note the counts so far: each event repeats only those that it knows."""
        if isinstance(counts, dict):
            self._usage |= without_nulls(counts)

    def _call(self, opened: _Open, **call: object) -> list[Chunk]:
        """Add to the tool call of this block."""
        return self._chunk({"tool_calls": [{"index": opened.place, **call}]})

    def _chunk(self, delta: JSONObject, finish_reason: str | None = None) -> list[Chunk]:
        """Make one chunk that adds `delta`."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return [self.chunk({**self._head, "choices": [choice], "usage": None})]


def _assistant(blocks: list[_Block]) -> JSONObject:
    """Translate the content of a whole message."""
    text = "".join(block.text or "" for block in blocks if block.type == "text")
    calls = [
        {
            "id": block.id,
            "type": "function",
            "function": {"name": block.name, "arguments": _arguments(block)},
        }
        for block in blocks
        if block.type == "tool_use"
    ]
    others = {
        "tool_calls": calls,
        "reasoning_content": "".join(block.thinking or "" for block in blocks),
        "thinking_blocks": _thoughts(blocks),
    }
    return {
        "role": "assistant",
        "content": None if calls and not text else text,
        "refusal": None,
        **{name: value for name, value in others.items() if value},
    }


def _head(message: _Message, kind: str) -> JSONObject:
    return {"id": message.id, "object": kind, "created": int(time()), "model": message.model}


def _arguments(call: _Block) -> str:
    """Translate arguments: an object here, JSON text at OpenAI."""
    return encode(call.input or {}).decode()


def _thoughts(blocks: list[_Block]) -> list[JSONObject]:
    """Find the thinking that Anthropic wants back: what it signed or encrypted."""
    return [
        {"type": block.type, "thinking": block.thinking or "", "signature": block.signature}
        if block.signature
        else {"type": block.type, "data": block.data}
        for block in blocks
        if block.signature or block.type == "redacted_thinking"
    ]


def _finish_reason(stop_reason: str | None) -> str:
    return FINISH_REASONS.get(stop_reason or "", "stop")


def _usage(counts: object) -> JSONObject | None:
    """Translate token counts: Anthropic counts cached input beside the rest, OpenAI within."""
    usage = read_counts(counts, _Usage)
    if usage is None:
        return None
    cached, details = usage.cache_read_input_tokens, usage.output_tokens_details
    prompt = usage.input_tokens + cached + usage.cache_creation_input_tokens
    thinking = details.get("thinking_tokens") if isinstance(details, dict) else None
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage.output_tokens,
        "total_tokens": prompt + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": thinking or 0},
    }
