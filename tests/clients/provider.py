"""A fake provider of OpenAI's API for real clients: the model's name decides what it answers."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from aiohttp import web

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


class Answer(NamedTuple):
    """What a model answers, in the pieces of its stream; a call is a name and its arguments."""

    text: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    calls: tuple[tuple[str, tuple[str, ...]], ...] = ()


ANSWERS = {
    "text": Answer(("Hel", "lo wörld", " 👩‍💻", "\n")),
    "reasoning": Answer(("42",), reasoning=("Let me", " see.")),
    "call": Answer(("One:",), calls=(("weather", ('{"city": "Zürich"}',)),)),
    "calls": Answer(
        calls=(("weather", ("", '{"city":', ' "Zür', 'ich"}')), ("time", ('{"city": "Bern"}',)))
    ),
    "endless": Answer(("Hel",)),
    "cut": Answer(("Hel",)),
}
ERRORS = {
    "limited": (429, "rate_limit_exceeded", "Rate limit reached for requests per min."),
    "missing": (404, "model_not_found", "The model `missing` does not exist."),
    "long": (400, "context_length_exceeded", "This model's maximum context length is 8 tokens."),
}
"""Statuses, codes, and OpenAI's words, by which LiteLLM recognises a context that is too long."""


def tool_call(index: int, name: str, arguments: str) -> dict[str, Any]:
    """Return a tool call, or the first piece of one."""
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": f"call_{index}", "type": "function", "function": function}


def deltas(answer: Answer) -> Iterator[dict[str, Any]]:
    """Yield the pieces of a streamed answer."""
    yield {"role": "assistant", "content": ""}
    yield from ({"reasoning_content": piece} for piece in answer.reasoning)
    yield from ({"content": piece} for piece in answer.text)
    for index, (name, (first, *rest)) in enumerate(answer.calls):
        yield {"tool_calls": [tool_call(index, name, first)]}
        for piece in rest:
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def message(answer: Answer) -> dict[str, Any]:
    """Return the same answer as a whole."""
    calls = enumerate(answer.calls)
    return {
        "role": "assistant",
        "content": "".join(answer.text) or None,
        "reasoning_content": "".join(answer.reasoning) or None,
        "tool_calls": [tool_call(index, name, "".join(pieces)) for index, (name, pieces) in calls],
    }


class Provider:
    """A server of OpenAI's API, which holds its answer as the model `endless`."""

    def __init__(self) -> None:
        self.held, self.left = asyncio.Event(), asyncio.Event()

    async def hold(self) -> None:
        """Wait until the connection is closed."""
        self.held.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Answer POST /v1/chat/completions."""
        body = await request.json()
        model = body["model"]
        if model in ERRORS:
            status, code, words = ERRORS[model]
            error = {"message": words, "type": "invalid_request_error", "code": code}
            return web.json_response({"error": error}, status=status, headers={"Retry-After": "7"})
        answer, head = ANSWERS[model], {"id": "chatcmpl-1", "created": 1, "model": model}
        end: dict[str, Any] = {"finish_reason": "tool_calls" if answer.calls else "stop"}
        if not body["stream"]:
            if model == "endless":
                await self.hold()
            choices = [{"index": 0, "message": message(answer), **end}]
            whole = {"object": "chat.completion", "choices": choices, "usage": USAGE}
            return web.json_response(head | whole)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for delta in deltas(answer):
            await write(response, head, [{"index": 0, "delta": delta, "finish_reason": None}])
        if model == "endless":
            await self.hold()
        if model != "cut":
            await write(response, head, [{"index": 0, "delta": {}, **end}])
            await write(response, head | {"usage": USAGE}, [])
            await response.write(b"data: [DONE]\n\n")
        return response


async def write(response: web.StreamResponse, head: dict[str, Any], choices: list[Any]) -> None:
    """Send one chunk."""
    chunk = {**head, "object": "chat.completion.chunk", "choices": choices}
    await response.write(b"data: %b\n\n" % json.dumps(chunk).encode())
