"""OpenAI chat messages as Anthropic's system prompt and turns.

Anthropic keeps the system prompt beside the conversation, knows two roles, takes tool
results as part of a user's turn (first in it) and refuses empty text. System messages
from anywhere in the conversation go to the front, as in Anthropic's own OpenAI layer,
since only its newer models take them in the middle. What has no counterpart is refused,
never left out. Fields that are not OpenAI's (`cache_control`, `is_error` …) stay on the
parts and tool results that carry them.

Needs: pydantic-core (its JSON parser), `base.py` beside it.
Source: https://platform.claude.com/docs/en/api/messages
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic_core import from_json

from .base import JSONObject, ProviderRejectedError

TURN_OF_ROLE = {"user": "user", "assistant": "assistant", "tool": "user"}
OPENAI_PART_FIELDS = frozenset({"type", "text", "refusal", "image_url", "prompt_cache_breakpoint"})
OPENAI_TOOL_MESSAGE_FIELDS = frozenset({"role", "content", "tool_call_id", "name"})


def conversation(messages: Iterable[JSONObject]) -> tuple[list[JSONObject], list[JSONObject]]:
    """Split OpenAI's messages into system blocks and the turns of user and assistant.

    Raises ProviderRejectedError for what Anthropic has no counterpart of, and whatever
    a message that is not in OpenAI's format leads to (KeyError, TypeError …).
    """
    system: list[JSONObject] = []
    turns: list[JSONObject] = []
    for message in messages:
        role = message["role"]
        if role in ("system", "developer"):
            system += _blocks(message["content"])
        elif role in TURN_OF_ROLE:
            _take_turn(turns, TURN_OF_ROLE[role], BLOCKS_OF_ROLE[role](message))
        else:
            raise ProviderRejectedError(f"Anthropic has no messages of role {role!r}")
    for turn in turns:
        turn["content"].sort(key=_comes_after_tool_results)
    return system, turns


def _take_turn(turns: list[JSONObject], role: str, blocks: list[JSONObject]) -> None:
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    elif blocks:
        turns.append({"role": role, "content": blocks})


def _comes_after_tool_results(block: JSONObject) -> bool:
    return bool(block["type"] != "tool_result")


def _user_blocks(message: JSONObject) -> list[JSONObject]:
    return _blocks(message["content"])


def _assistant_blocks(message: JSONObject) -> list[JSONObject]:
    for field in ("function_call", "audio"):
        if message.get(field):
            raise ProviderRejectedError(f"Anthropic has no counterpart of {field!r} in a message")
    text = _blocks(message.get("content")) + _blocks(message.get("refusal"))
    return text + [_tool_use(call) for call in message.get("tool_calls") or ()]


def _tool_use(call: JSONObject) -> JSONObject:
    if call.get("type", "function") != "function":
        raise ProviderRejectedError(f"Anthropic has no tool calls of type {call['type']!r}")
    name = call["function"]["name"]
    try:
        arguments = from_json(call["function"].get("arguments") or "{}", allow_inf_nan=False)
    except ValueError as error:
        raise ProviderRejectedError(f"the arguments of {name!r} are not JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise ProviderRejectedError(f"the arguments of {name!r} are not a JSON object")
    return {"type": "tool_use", "id": _tool_id(call["id"]), "name": name, "input": arguments}


def _tool_result(message: JSONObject) -> list[JSONObject]:
    content = message.get("content") or ""
    return [
        {
            **extras(message, OPENAI_TOOL_MESSAGE_FIELDS),
            "type": "tool_result",
            "tool_use_id": _tool_id(message["tool_call_id"]),
            "content": content if isinstance(content, str) else _blocks(content),
        }
    ]


def _tool_id(identity: str) -> str:
    """Fit another provider's id into the characters that Anthropic allows in one."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", identity)


BLOCKS_OF_ROLE: Mapping[str, Callable[[JSONObject], list[JSONObject]]] = {
    "user": _user_blocks,
    "assistant": _assistant_blocks,
    "tool": _tool_result,
}


def _blocks(content: str | list[JSONObject] | None) -> list[JSONObject]:
    """Translate a message's content; text that is only white space is not allowed there."""
    if content is None:
        return []
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    blocks = [_block(part) for part in parts]
    return [block for block in blocks if block["type"] != "text" or block["text"].strip()]


def _block(part: JSONObject) -> JSONObject:
    kind = part["type"]
    if kind not in BLOCK_OF_PART:
        raise ProviderRejectedError(f"Anthropic has no counterpart of a {kind!r} content part")
    return {**extras(part, OPENAI_PART_FIELDS), **BLOCK_OF_PART[kind](part)}


def _image(part: JSONObject) -> JSONObject:
    url = part["image_url"]["url"]
    remote = url.startswith(("https://", "http://"))
    return {"type": "image", "source": {"type": "url", "url": url} if remote else _base64(url)}


def _base64(url: str) -> JSONObject:
    """Read a data URL (RFC 2397) as a source of bytes."""
    head, comma, data = url.partition(",")
    scheme, _, described = head.partition(":")
    media_type, *parameters = described.split(";")
    if scheme != "data" or "base64" not in parameters or not comma:
        raise ProviderRejectedError(f"neither a web address nor a base64 data URL: {url[:40]!r}")
    return {"type": "base64", "media_type": media_type, "data": data}


BLOCK_OF_PART: Mapping[str, Callable[[JSONObject], JSONObject]] = {
    "text": lambda part: {"type": "text", "text": part["text"]},
    "refusal": lambda part: {"type": "text", "text": part["refusal"]},
    "image_url": _image,
}


def extras(value: Mapping[str, Any], known: frozenset[str]) -> JSONObject:
    """Keep the fields that OpenAI's format does not have: Anthropic may understand them."""
    return {key: field for key, field in value.items() if key not in known}
