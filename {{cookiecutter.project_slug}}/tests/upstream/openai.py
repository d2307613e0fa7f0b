"""OpenAI's wire format: chat completions streamed and plain, embeddings, models.

Source: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from collections.abc import Iterator
from functools import lru_cache

from .script import Script, ToolCall
from .wire import Answer, JSONObject, Request, sse

CREATED = 1_700_000_000
# The message, `type`, `param` and `code` of a status; like the real one, a 401 quotes the key.
ERRORS: dict[int, tuple[str, ...]] = {
    400: (
        "This model's maximum context length is 128000 tokens. Please reduce the length.",
        "invalid_request_error",
        "messages",
        "context_length_exceeded",
    ),
    401: ("Incorrect API key provided: {key}.", "invalid_request_error", "", "invalid_api_key"),
    404: ("Invalid URL ({request.method} {request.path})", "invalid_request_error"),
    429: ("Rate limit reached in organization org-fake", "requests", "", "rate_limit_exceeded"),
}
FAILED = ("The server had an error while processing your request. Sorry!", "server_error")


def chat(request: Request, script: Script) -> Answer:
    """Answer POST /v1/chat/completions."""
    body = request.json
    if body.get("stream"):
        usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return _stream(script, body["model"], usage)
    calls = {"tool_calls": [_call(call, "".join(call.arguments)) for call in script.tool_calls]}
    message = {"role": "assistant", "content": script.text, "refusal": None}
    completion = {
        **_head(body["model"], "chat.completion"),
        "choices": [_choice(script, message=message | (calls if script.tool_calls else {}))],
        "usage": _usage(script),
    }
    return Answer.plain(completion, after=script.duration)


@lru_cache(maxsize=64)
def _stream(script: Script, model: str, include_usage: bool) -> Answer:
    head = _head(model, "chat.completion.chunk") | ({"usage": None} if include_usage else {})
    unfinished = {"finish_reason": None}

    def parts() -> Iterator[tuple[float, bytes]]:
        opening = {"role": "assistant", "content": "", "refusal": None}
        yield 0.0, sse(head | {"choices": [_choice(script, delta=opening) | unfinished]})
        for index, delta in enumerate(_deltas(script)):
            choice = _choice(script, delta=delta) | unfinished
            yield script.delay(index), sse(head | {"choices": [choice]})
        yield 0.0, sse(head | {"choices": [_choice(script, delta={})]})
        if include_usage:
            yield 0.0, sse(head | {"choices": [], "usage": _usage(script)})
        yield 0.0, sse(b"[DONE]")

    return Answer.stream(parts())


def _deltas(script: Script) -> Iterator[JSONObject]:
    for text in script.texts:
        yield {"content": text}
    for index, call in enumerate(script.tool_calls):
        for at, piece in enumerate(call.arguments):
            added = {"function": {"arguments": piece}} if at else _call(call, piece)
            yield {"tool_calls": [{"index": index, **added}]}


def _call(call: ToolCall, arguments: str) -> JSONObject:
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def _choice(script: Script, **content: JSONObject) -> JSONObject:
    reason = script.finish_reason or ("tool_calls" if script.tool_calls else "stop")
    return {"index": 0, **content, "logprobs": None, "finish_reason": reason}


def _head(model: str, kind: str) -> JSONObject:
    head = {"id": "chatcmpl-fake", "object": kind, "created": CREATED, "model": model}
    return head | {"service_tier": "default", "system_fingerprint": "fp_fake"}


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


def models(_: Request, script: Script) -> Answer:
    """Answer GET /v1/models."""
    data = [
        {"id": name, "object": "model", "created": CREATED, "owned_by": "system"}
        for name in ("gpt-fake", "gpt-fake-mini")
    ]
    return Answer.plain({"object": "list", "data": data}, after=script.first_token_delay)


def error_body(status: int, request: Request) -> JSONObject:
    """Word an error as OpenAI does."""
    message, kind, param, code = (*ERRORS.get(status, FAILED), "", "")[:4]
    message = message.format(key=request.headers.get("authorization"), request=request)
    details = {"message": message, "type": kind, "param": param or None, "code": code or None}
    return {"error": details}


ROUTES = {
    "POST /v1/chat/completions": chat,
    "POST /v1/embeddings": embeddings,
    "GET /v1/models": models,
}
