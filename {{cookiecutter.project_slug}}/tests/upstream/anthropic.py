"""Anthropic's wire format: messages streamed and plain, models.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

import json
from collections.abc import Iterator
from functools import lru_cache

from .script import Script
from .wire import Answer, JSONObject, Request, sse

ERRORS = {
    400: ("invalid_request_error", "prompt is too long: 205351 tokens > 200000 maximum"),
    401: ("authentication_error", "invalid x-api-key"),
    404: ("not_found_error", "Not found"),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    529: ("overloaded_error", "Overloaded"),
}


def messages(request: Request, script: Script) -> Answer:
    """Answer POST /v1/messages."""
    body = request.json
    if body.get("stream"):
        return _stream(script, body["model"])
    content: list[JSONObject] = [{"type": "text", "text": script.text}] if script.texts else []
    content += [
        {**block, "input": json.loads("".join(delta["partial_json"] for delta in deltas))}
        for block, deltas in _blocks(script)
        if block["type"] == "tool_use"
    ]
    ending = {"stop_reason": _stop_reason(script), "usage": _usage(script)}
    return Answer.plain(_message(body["model"], content) | ending, after=script.duration)


@lru_cache(maxsize=64)
def _stream(script: Script, model: str) -> Answer:
    def parts() -> Iterator[tuple[float, bytes]]:
        token = 0
        for event in _events(script, model):
            is_token = event["type"] == "content_block_delta"
            yield script.delay(token) if is_token else 0.0, sse(event, event["type"])
            token += is_token

    return Answer.stream(parts())


def _events(script: Script, model: str) -> Iterator[JSONObject]:
    opening = {**_message(model, []), "usage": _usage(script) | {"output_tokens": 1}}
    yield {"type": "message_start", "message": opening}
    yield {"type": "ping"}
    for index, (block, deltas) in enumerate(_blocks(script)):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    usage = {"output_tokens": script.completion_tokens}
    delta = {"stop_reason": _stop_reason(script), "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": usage}
    yield {"type": "message_stop"}


def _blocks(script: Script) -> Iterator[tuple[JSONObject, list[JSONObject]]]:
    """Each content block as it starts, and the deltas that fill it."""
    if script.texts:
        deltas = [{"type": "text_delta", "text": text} for text in script.texts]
        yield {"type": "text", "text": ""}, deltas
    for call in script.tool_calls:
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in call.arguments]
        yield {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}, deltas


def _message(model: str, content: list[JSONObject]) -> JSONObject:
    head = {"id": "msg_fake", "type": "message", "role": "assistant", "model": model}
    return head | {"content": content, "stop_reason": None, "stop_sequence": None}


def _stop_reason(script: Script) -> str:
    return script.finish_reason or ("tool_use" if script.tool_calls else "end_turn")


def _usage(script: Script) -> JSONObject:
    return {
        "input_tokens": script.prompt_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": script.completion_tokens,
    }


def models(_: Request, script: Script) -> Answer:
    """Answer GET /v1/models."""
    model = {"type": "model", "id": "claude-fake", "created_at": "2026-01-02T03:04:05Z"}
    return Answer.plain({"data": [model], "has_more": False}, after=script.first_token_delay)


def error_body(status: int, _: Request) -> JSONObject:
    """Word an error as Anthropic does."""
    kind, message = ERRORS.get(status, ("api_error", "Internal server error"))
    error = {"type": kind, "message": message}
    return {"type": "error", "error": error, "request_id": "req_fake"}


ROUTES = {"POST /v1/messages": messages, "GET /v1/models": models}
