"""The vendors' own SDKs as judges of what is sent to them and answered in their name."""

from collections.abc import Iterable
from typing import Any

from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessage,
    ChatCompletionMessageFunctionToolCall,
)
from pydantic import TypeAdapter
from pydantic_core import to_json

from app.llm.base import Chunk, JSONObject

MESSAGES_REQUEST: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)
NOT_IN_THE_SDK = {"temperature", "top_p", "stream"}
"""The SDK speaks a later version of the API, which has no sampling parameters."""


def assert_anthropic_accepts(body: JSONObject) -> None:
    """Hold a request against the SDK's types: every field known, at every depth."""
    known = {name: value for name, value in body.items() if name not in NOT_IN_THE_SDK}
    assert _read(MESSAGES_REQUEST.validate_python(known)) == known


def _read(validated: Any) -> Any:
    """Read what was validated to its end, as pydantic checks the items of an iterable then."""
    if isinstance(validated, dict):
        return {name: _read(value) for name, value in validated.items()}
    if isinstance(validated, str | bytes | int | float | None):
        return validated
    return [_read(value) for value in validated]


def accumulated(chunks: Iterable[Chunk]) -> ChatCompletion:
    """Let OpenAI's stream helper put an answer together; each chunk must parse strictly."""
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(
            ChatCompletionChunk.model_validate_json(to_json(chunk.body), strict=True)
        )
    return state.get_final_completion()


def parsed(completion: JSONObject) -> ChatCompletion:
    """Parse a plain answer strictly with OpenAI's types."""
    return ChatCompletion.model_validate_json(to_json(completion), strict=True)


def calls_of(message: ChatCompletionMessage) -> list[tuple[str, str, str]]:
    """List the id, the name and the arguments of each call of a function."""
    calls = message.tool_calls or []
    assert all(isinstance(call, ChatCompletionMessageFunctionToolCall) for call in calls)
    return [
        (call.id, call.function.name, call.function.arguments)
        for call in calls
        if isinstance(call, ChatCompletionMessageFunctionToolCall)
    ]
