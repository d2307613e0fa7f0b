"""OpenAI chat bodies as bodies of Anthropic's Messages API.

A field of OpenAI's format is translated, refused where the answer would not be the requested one,
or dropped. Other fields (`thinking`, `top_k`, `cache_control`, `is_error` …) pass through, also on
content parts, tools and tool results; what a model does not accept, Anthropic's error names. System
messages go to the front wherever they are, since only newer models accept them elsewhere.

Needs: msgspec and `base.py`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.json import decode

from app.llm.base import JSONObject, ProviderRejectedError

REFUSED = frozenset({"audio", "function_call", "functions", "moderation", "web_search_options"})
# All but `model`; a test holds them against the fields of OpenAI's SDK.
OPENAI_FIELDS = REFUSED | {
    "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens",
    "messages", "metadata", "modalities", "n", "parallel_tool_calls", "prediction",
    "presence_penalty", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop",
    "store", "stream", "stream_options", "temperature", "tool_choice", "tools", "top_logprobs",
    "top_p", "user", "verbosity",
}  # fmt: skip

# Anthropic requires a limit. Thinking counts too, and newer models think by default.
DEFAULT_MAX_TOKENS = 16_384
HIGHEST_TEMPERATURE = 1.0  # OpenAI's scale goes to 2
THOUGHTS = frozenset({"thinking", "redacted_thinking"})
THOUGHT_FIELDS = ("type", "thinking", "signature", "data")
"""What Anthropic signs; clients may have added others."""
TOOL_MESSAGE_FIELDS = frozenset({"role", "content", "tool_call_id", "name"})
DATA_URL = re.compile(r"data:([^;,]*)(?:;[^,]*)?;base64,(.*)", re.DOTALL)  # RFC 2397


def messages_request(request: JSONObject) -> JSONObject:
    """Translate an OpenAI chat body; ProviderRejectedError names what cannot be translated."""
    given = {field: value for field, value in request.items() if value is not None}
    for field in sorted(REFUSED & given.keys()):
        raise ProviderRejectedError(f"Anthropic has no counterpart of {field!r}", param=field)
    if given.get("n", 1) != 1:
        raise ProviderRejectedError(f"Anthropic gives one answer, not n = {given['n']}", param="n")
    try:
        return {
            **_conversation(given["messages"]),
            **_limits(given),
            **_tools(given),
            **_output(given),
            **_without(given, OPENAI_FIELDS),
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise ProviderRejectedError(f"not a chat body in OpenAI's format: {error!r}") from error


def _without(value: Mapping[str, Any], known: Iterable[str]) -> JSONObject:
    """Keep the fields that OpenAI's format does not have: they are meant for Anthropic."""
    return {key: field for key, field in value.items() if key not in known}


def _conversation(messages: list[JSONObject]) -> JSONObject:
    """Split messages into the system prompt and alternating turns, tool results first in each."""
    system: list[JSONObject] = []
    turns: list[JSONObject] = []
    for message in messages:
        role, blocks = _turn(message)
        if role == "system":
            system += blocks
        elif turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    for turn in turns:
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    return {"system": system, "messages": turns} if system else {"messages": turns}


def _turn(message: JSONObject) -> tuple[str, list[JSONObject]]:
    """Return the role at Anthropic and the content blocks of one message."""
    match message["role"]:
        case "system" | "developer":
            return "system", _blocks(message["content"])
        case "user":
            return "user", _blocks(message["content"])
        case "assistant":
            blocks = [
                block
                for field in ("thinking_blocks", "content", "refusal")
                for block in _blocks(message.get(field))
            ]
            blocks += map(_tool_use, message.get("tool_calls") or ())
            return "assistant", sorted(blocks, key=lambda block: block["type"] not in THOUGHTS)
        case "tool":
            return "user", [_tool_result(message)]
        case role:
            raise ProviderRejectedError(f"Anthropic has no messages of role {role!r}")


def _tool_use(call: JSONObject) -> JSONObject:
    """Translate a call; its arguments are JSON text at OpenAI, an object here."""
    name, arguments = call["function"]["name"], call["function"].get("arguments") or "{}"
    try:
        parsed = decode(arguments, type=JSONObject)
    except (ValueError, RecursionError):
        raise ProviderRejectedError(f"the arguments of {name!r} are not a JSON object") from None
    return {"type": "tool_use", "id": _tool_id(call["id"]), "name": name, "input": parsed}


def _tool_result(message: JSONObject) -> JSONObject:
    """Translate the result of a call, a message of its own at OpenAI."""
    content = message.get("content") or ""
    return {
        **_without(message, TOOL_MESSAGE_FIELDS),
        "type": "tool_result",
        "tool_use_id": _tool_id(message["tool_call_id"]),
        "content": content if isinstance(content, str) else _blocks(content),
    }


def _tool_id(identity: str) -> str:
    """Replace the characters of another provider's id that Anthropic does not allow."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", identity)


def _blocks(content: str | list[JSONObject] | None) -> list[JSONObject]:
    """Translate a message's content, without text that is only white space."""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    blocks = [_block(part) for part in parts or ()]
    return [block for block in blocks if block["type"] != "text" or block["text"].strip()]


def _block(part: JSONObject) -> JSONObject:
    """Translate one content part; what Anthropic does not take is refused by name."""
    kind = part["type"]
    if kind in THOUGHTS:
        return {field: part[field] for field in THOUGHT_FIELDS if field in part}
    if kind not in {"text", "refusal", "image_url"}:
        raise ProviderRejectedError(f"Anthropic has no counterpart of a {kind!r} content part")
    extras = _without(part, {"type", kind})
    if kind == "image_url":
        return {**extras, "type": "image", "source": _image(part[kind]["url"])}
    return {**extras, "type": "text", "text": part[kind]}


def _image(url: str) -> JSONObject:
    """Translate the address of an image; Anthropic fetches it, or gets its bytes."""
    if url.startswith(("https://", "http://")):
        return {"type": "url", "url": url}
    found = DATA_URL.fullmatch(url)
    if not found:
        raise ProviderRejectedError(f"neither a web address nor a base64 data URL: {url[:40]!r}")
    return {"type": "base64", "media_type": found[1], "data": found[2]}


def _limits(given: JSONObject) -> JSONObject:
    """Translate limits and sampling, and the end user for Anthropic's abuse detection."""
    max_tokens = given.get("max_tokens", DEFAULT_MAX_TOKENS)
    limits: JSONObject = {"max_tokens": given.get("max_completion_tokens", max_tokens)}
    if "stop" in given:
        stop = given["stop"]
        limits["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if "temperature" in given:
        limits["temperature"] = min(given["temperature"], HIGHEST_TEMPERATURE)
    if "top_p" in given:
        limits["top_p"] = given["top_p"]
    user = given.get("safety_identifier") or given.get("user")
    return {**limits, "metadata": {"user_id": user}} if user else limits


def _tools(given: JSONObject) -> JSONObject:
    """Translate tools and the choice among them, which Anthropic refuses without tools."""
    tools = [_tool(tool) for tool in given.get("tools", ())]
    if not tools:
        return {}
    choice = given.get("tool_choice", "auto")
    if isinstance(choice, str):
        choice = {"type": "any" if choice == "required" else choice}
    elif choice["type"] == "function":
        choice = {"type": "tool", "name": choice["function"]["name"]}
    if given.get("parallel_tool_calls") is False and choice["type"] != "none":
        choice = {**choice, "disable_parallel_tool_use": True}
    return {"tools": tools, "tool_choice": choice}


def _tool(tool: JSONObject) -> JSONObject:
    """Translate a function; tools of Anthropic's own pass through."""
    if "function" not in tool:
        return tool  # one of Anthropic's own, such as its web search
    function = tool["function"]
    return {
        **_without(tool, {"type", "function"}),
        **{key: function[key] for key in ("name", "description", "strict") if function.get(key)},
        "input_schema": function.get("parameters") or {"type": "object"},
    }


def _output(given: JSONObject) -> JSONObject:
    """Translate effort and format of the output."""
    config: JSONObject = {}
    effort = given.get("reasoning_effort")
    if effort and effort != "none":
        config["effort"] = "low" if effort == "minimal" else effort
    wanted = given.get("response_format", {"type": "text"})
    if wanted["type"] == "json_schema":
        config["format"] = {"type": "json_schema", "schema": wanted["json_schema"]["schema"]}
    elif wanted["type"] != "text":
        raise ProviderRejectedError(
            f"Anthropic has no response format {wanted['type']!r}: use 'json_schema'",
            param="response_format",
        )
    thinking = {"thinking": {"type": "disabled"}} if effort == "none" else {}
    return {**thinking, "output_config": config} if config else thinking
