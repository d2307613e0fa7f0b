"""Anthropic's wire format: messages streamed and plain, models.

Requests are checked as the real API checks them: fields that it does not know are an
error there too. `refusal` scripts end with a refusal whose explanation is the text.
Source: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from .script import Script, ToolCall
from .wire import Answer, Request, WireFormat, sse

JSONObject = dict[str, Any]

REQUIRED_FIELDS = ("model", "messages", "max_tokens")
OPTIONAL_FIELDS = frozenset(
    {
        "cache_control", "container", "inference_geo", "metadata", "output_config", "service_tier",
        "stop_sequences", "stream", "system", "temperature", "thinking", "tool_choice", "tools",
        "top_k", "top_p",
    }
)  # fmt: skip


def messages(request: Request, script: Script) -> Answer:
    """Answer POST /v1/messages."""
    body = request.json
    problems = [f"{name}: Field required" for name in REQUIRED_FIELDS if name not in body]
    extra = sorted(body.keys() - OPTIONAL_FIELDS - set(REQUIRED_FIELDS))
    problems += [f"{name}: Extra inputs are not permitted" for name in extra]
    if problems:
        return Answer.plain(_error("invalid_request_error", problems[0]), status=400)
    if body.get("stream"):
        return _stream(script, body["model"])
    return Answer.plain(_message(script, body["model"]), after=script.duration)


@lru_cache(maxsize=64)
def _stream(script: Script, model: str) -> Answer:
    def parts() -> Iterator[tuple[float, bytes]]:
        delays = iter([script.delay(token) for token in range(script.completion_tokens)])
        for event in _events(script, model):
            yield next(delays) if _is_token(event) else 0.0, sse(event, event["type"])

    return Answer.stream(parts())


def _is_token(event: JSONObject) -> bool:
    return bool(event["type"] == "content_block_delta")


def _events(script: Script, model: str) -> Iterator[JSONObject]:
    opening = {**_head(model), "content": [], **_stop(None), "usage": _usage(script, 1)}
    yield {"type": "message_start", "message": opening}
    yield {"type": "ping"}
    for index, (block, deltas) in enumerate(_blocks(script)):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    usage = {"output_tokens": script.completion_tokens}
    yield {"type": "message_delta", "delta": _ending(script), "usage": usage}
    yield {"type": "message_stop"}


def _blocks(script: Script) -> Iterator[tuple[JSONObject, list[JSONObject]]]:
    """Each content block as it starts, and the deltas that fill it."""
    if script.texts and not script.refusal:
        deltas = [{"type": "text_delta", "text": text} for text in script.texts]
        yield {"type": "text", "text": ""}, deltas
    for call in script.tool_calls:
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in call.arguments]
        yield _tool_use(call, {}), deltas


def _message(script: Script, model: str) -> JSONObject:
    says = script.texts and not script.refusal
    content: list[JSONObject] = [{"type": "text", "text": script.text}] if says else []
    content += [
        _tool_use(call, json.loads("".join(call.arguments) or "{}")) for call in script.tool_calls
    ]
    usage = _usage(script, script.completion_tokens)
    return {**_head(model), "content": content, **_ending(script), "usage": usage}


def _tool_use(call: ToolCall, arguments: JSONObject) -> JSONObject:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}


def _head(model: str) -> JSONObject:
    return {"id": "msg_fake", "type": "message", "role": "assistant", "model": model}


def _ending(script: Script) -> JSONObject:
    if script.refusal:
        details = {"type": "refusal", "category": None, "explanation": script.text}
        return _stop("refusal", details)
    return _stop(script.finish_reason or ("tool_use" if script.tool_calls else "end_turn"))


def _stop(reason: str | None, details: JSONObject | None = None) -> JSONObject:
    return {"stop_reason": reason, "stop_sequence": None, "stop_details": details}


def _usage(script: Script, output_tokens: int) -> JSONObject:
    return {
        "input_tokens": script.prompt_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }


def models(request: Request, script: Script) -> Answer:
    """Answer GET /v1/models."""
    names = {"claude-fake": "Claude Fake", "claude-fake-mini": "Claude Fake Mini"}
    data = [
        {
            "type": "model",
            "id": identity,
            "display_name": name,
            "created_at": "2026-01-02T03:04:05Z",
            "lifecycle": "active",
        }
        for identity, name in names.items()
    ]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]}
    return Answer.plain({"data": data, "has_more": False, **ends}, after=script.first_token_delay)


ERRORS = {
    400: ("invalid_request_error", "prompt is too long: 205351 tokens > 200000 maximum"),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your organization cannot be billed. Check your payment details."),
    403: ("permission_error", "Your API key does not have permission to use the resource."),
    404: ("not_found_error", "Not found"),
    413: ("request_too_large", "Request exceeds the maximum allowed number of bytes."),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    504: ("timeout_error", "The request timed out."),
    529: ("overloaded_error", "Overloaded"),
}


def error_body(status: int, request: Request) -> JSONObject:
    """Word an error as Anthropic does."""
    return _error(*ERRORS.get(status, ("api_error", "Internal server error")))


def error_event(kind: str, message: str) -> bytes:
    """Encode an error in the middle of a stream, for `Script.before_event`."""
    return sse(_error(kind, message), "error")


def _error(kind: str, message: str) -> JSONObject:
    error = {"type": kind, "message": message}
    return {"type": "error", "error": error, "request_id": "req_fake"}


def recognises(request: Request) -> bool:
    """Tell Anthropic's requests by the header that its API demands."""
    return "anthropic-version" in request.headers


FORMAT = WireFormat(
    recognises=recognises,
    routes={"POST /v1/messages": messages, "GET /v1/models": models},
    error=error_body,
)
