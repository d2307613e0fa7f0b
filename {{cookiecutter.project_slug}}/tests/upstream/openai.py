"""OpenAI's wire format: chat completions streamed and plain, embeddings, models.

Chunks carry the fields that OpenAI's do, also those that few clients read.
Source: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from .script import Script
from .wire import Answer, Request, WireFormat, sse

CREATED = 1_700_000_000
END_MARK = b"[DONE]"

JSONObject = dict[str, Any]


def chat(request: Request, script: Script) -> Answer:
    """Answer POST /v1/chat/completions."""
    body = request.json
    missing = [name for name in ("model", "messages") if not body.get(name)]
    if missing:
        message = f"you must provide a {missing[0]} parameter"
        return Answer.plain(_error(message, "invalid_request_error", param=missing[0]), status=400)
    if body.get("stream"):
        usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return _stream(script, body["model"], usage)
    return Answer.plain(_completion(script, body["model"]), after=script.duration)


@lru_cache(maxsize=64)
def _stream(script: Script, model: str, include_usage: bool) -> Answer:
    head = _head(model, "chat.completion.chunk")
    if include_usage:
        head["usage"] = None

    def parts() -> Iterator[tuple[float, bytes]]:
        delta: JSONObject = {"role": "assistant", "content": None, "refusal": None}
        yield 0.0, sse(head | {"choices": [_choice(delta | _says(script, ""))]})
        for index, delta in enumerate(_deltas(script)):
            yield script.delay(index), sse(head | {"choices": [_choice(delta)]})
        yield 0.0, sse(head | {"choices": [_choice({}, _finish_reason(script))]})
        if include_usage:
            yield 0.0, sse(head | {"choices": [], "usage": _usage(script)})
        yield 0.0, sse(END_MARK)

    return Answer.stream(parts())


def _deltas(script: Script) -> Iterator[JSONObject]:
    for text in script.texts:
        yield _says(script, text)
    for index, call in enumerate(script.tool_calls):
        opening = {"id": call.id, "type": "function"}
        name = {"name": call.name}
        for piece in call.arguments:
            function = {**name, "arguments": piece}
            yield {"tool_calls": [{"index": index, **opening, "function": function}]}
            opening, name = {}, {}


def _says(script: Script, text: str) -> JSONObject:
    return {"refusal" if script.refusal else "content": text}


def _choice(delta: JSONObject, finish_reason: str | None = None) -> JSONObject:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _finish_reason(script: Script) -> str:
    return script.finish_reason or ("tool_calls" if script.tool_calls else "stop")


def _completion(script: Script, model: str) -> JSONObject:
    message: JSONObject = {"role": "assistant", "content": None, "refusal": None}
    message |= _says(script, script.text)
    if script.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": "".join(call.arguments)},
            }
            for call in script.tool_calls
        ]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": _finish_reason(script),
    }
    return {**_head(model, "chat.completion"), "choices": [choice], "usage": _usage(script)}


def _head(model: str, kind: str) -> JSONObject:
    return {
        "id": "chatcmpl-fake",
        "object": kind,
        "created": CREATED,
        "model": model,
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    }


def _usage(script: Script) -> JSONObject:
    return {
        "prompt_tokens": script.prompt_tokens,
        "completion_tokens": script.completion_tokens,
        "total_tokens": script.prompt_tokens + script.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def embeddings(request: Request, script: Script) -> Answer:
    """Answer POST /v1/embeddings: the n-th vector is all n."""
    body = request.json
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = [
        {"object": "embedding", "index": index, "embedding": [float(index)] * script.dimensions}
        for index in range(len(inputs))
    ]
    usage = {"prompt_tokens": script.prompt_tokens, "total_tokens": script.prompt_tokens}
    answer = {"object": "list", "data": data, "model": body["model"], "usage": usage}
    return Answer.plain(answer, after=script.first_token_delay)


def models(request: Request, script: Script) -> Answer:
    """Answer GET /v1/models."""
    data = [
        {"id": name, "object": "model", "created": CREATED, "owned_by": "system"}
        for name in ("gpt-fake", "gpt-fake-mini")
    ]
    return Answer.plain({"object": "list", "data": data}, after=script.first_token_delay)


def error_body(status: int, request: Request) -> JSONObject:
    """Word an error as OpenAI does; like the real one, a 401 quotes the key."""
    key = request.headers.get("authorization", "").removeprefix("Bearer ")
    errors = {
        400: _error(
            "This model's maximum context length is 128000 tokens. However, your messages "
            "resulted in 130000 tokens. Please reduce the length of the messages.",
            "invalid_request_error",
            param="messages",
            code="context_length_exceeded",
        ),
        401: _error(
            f"Incorrect API key provided: {key}. You can find your API key at "
            "https://platform.openai.com/account/api-keys.",
            "invalid_request_error",
            code="invalid_api_key",
        ),
        404: _error(f"Invalid URL ({request.method} {request.path})", "invalid_request_error"),
        429: _error(
            "Rate limit reached for gpt-fake in organization org-fake on requests per min "
            "(RPM): Limit 500, Used 500, Requested 1. Please try again in 120ms.",
            "requests",
            code="rate_limit_exceeded",
        ),
        503: _error("The engine is currently overloaded, please try again later", "server_error"),
    }
    failed = "The server had an error while processing your request. Sorry about that!"
    return errors.get(status) or _error(failed, "server_error")


def _error(
    message: str, kind: str, *, param: str | None = None, code: str | None = None
) -> JSONObject:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


FORMAT = WireFormat(
    routes={
        "POST /v1/chat/completions": chat,
        "POST /v1/embeddings": embeddings,
        "GET /v1/models": models,
    },
    error=error_body,
)
