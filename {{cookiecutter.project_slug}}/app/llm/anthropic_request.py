"""OpenAI chat bodies as bodies of Anthropic's Messages API.

Every field of OpenAI's format is translated, dropped (it does not change what the answer says) or
refused (the answer would not be the requested one). Other fields (`thinking`, `top_k`,
`cache_control`, `is_error` …) pass through, also on content parts, tools and tool results; what a
model does not accept, Anthropic's error names. System messages go to the front wherever they are,
since only newer models accept them elsewhere.

Needs: pydantic-core (its JSON parser) and `base.py`.
"""

import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from .base import JSONObject, ProviderRejectedError

# A test holds these tables against the fields of OpenAI's SDK.
TRANSLATED = frozenset(
    {
        "max_completion_tokens", "max_tokens", "messages", "parallel_tool_calls",
        "reasoning_effort", "response_format", "safety_identifier", "stop", "temperature",
        "tool_choice", "tools", "top_p", "user",
    }
)  # fmt: skip
DROPPED = frozenset(
    {
        "frequency_penalty", "logit_bias", "logprobs", "metadata", "modalities", "n", "prediction",
        "presence_penalty", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
        "seed", "service_tier", "store", "stream", "stream_options", "top_logprobs", "verbosity",
    }
)  # fmt: skip
REFUSED = frozenset({"audio", "function_call", "functions", "moderation", "web_search_options"})

# A closed list: later models answer 400 to `temperature` and `top_p`, which would fail every
# request that falls back to them.
CLAUDE_WITH_SAMPLING = re.compile(
    r"claude-(instant|[23]|(opus|sonnet|haiku)-4(-[0-6])?([-@]20\d{6})?(?![-@]?\d))"
)
# Anthropic requires a limit. Thinking counts too, and newer models think by default.
DEFAULT_MAX_TOKENS = 16_384
HIGHEST_TEMPERATURE = 1.0  # OpenAI's scale goes to 2
EFFORTS = {"minimal": "low"}  # the others have the same names
TOOL_CHOICES = {"required": "any"}
PART_FIELDS = frozenset({"type", "text", "refusal", "image_url"})
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
            **_sampling(given),
            **_tools(given),
            **_output(given),
            **_extras(given, TRANSLATED | DROPPED),
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise ProviderRejectedError(f"not a chat body in OpenAI's format: {error!r}") from error


def _extras(value: Mapping[str, Any], known: frozenset[str]) -> JSONObject:
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
            text = _blocks(message.get("content")) + _blocks(message.get("refusal"))
            return "assistant", text + [_tool_use(call) for call in message.get("tool_calls") or ()]
        case "tool":
            return "user", [_tool_result(message)]
        case role:
            raise ProviderRejectedError(f"Anthropic has no messages of role {role!r}")


def _tool_use(call: JSONObject) -> JSONObject:
    """Translate a call; its arguments are JSON text at OpenAI, an object here."""
    name, arguments = call["function"]["name"], call["function"].get("arguments") or "{}"
    try:
        parsed = from_json(arguments, allow_inf_nan=False)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise ProviderRejectedError(f"the arguments of {name!r} are not a JSON object")
    return {"type": "tool_use", "id": _tool_id(call["id"]), "name": name, "input": parsed}


def _tool_result(message: JSONObject) -> JSONObject:
    """Translate the result of a call, a message of its own at OpenAI."""
    content = message.get("content") or ""
    return {
        **_extras(message, TOOL_MESSAGE_FIELDS),
        "type": "tool_result",
        "tool_use_id": _tool_id(message["tool_call_id"]),
        "content": content if isinstance(content, str) else _blocks(content),
    }


def _tool_id(identity: str) -> str:
    """Replace the characters of another provider's id that Anthropic does not allow."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", identity)


def _blocks(content: str | list[JSONObject] | None) -> list[JSONObject]:
    """Translate a message's content, without text that is only white space."""
    if content is None:
        return []
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    blocks = [_block(part) for part in parts]
    return [block for block in blocks if block["type"] != "text" or block["text"].strip()]


def _block(part: JSONObject) -> JSONObject:
    """Translate one content part; what Anthropic does not take is refused by name."""
    extras = _extras(part, PART_FIELDS)
    match part["type"]:
        case "text" | "refusal" as kind:
            return {**extras, "type": "text", "text": part[kind]}
        case "image_url":
            return {**extras, "type": "image", "source": _image(part["image_url"]["url"])}
        case kind:
            raise ProviderRejectedError(f"Anthropic has no counterpart of a {kind!r} content part")


def _image(url: str) -> JSONObject:
    """Translate the address of an image; Anthropic fetches it, or gets its bytes."""
    if url.startswith(("https://", "http://")):
        return {"type": "url", "url": url}
    found = DATA_URL.fullmatch(url)
    if not found:
        raise ProviderRejectedError(f"neither a web address nor a base64 data URL: {url[:40]!r}")
    return {"type": "base64", "media_type": found[1], "data": found[2]}


def _limits(given: JSONObject) -> JSONObject:
    """Translate the limits of the answer, and the end user for Anthropic's abuse detection."""
    max_tokens = given.get("max_tokens", DEFAULT_MAX_TOKENS)
    limits: JSONObject = {"max_tokens": given.get("max_completion_tokens", max_tokens)}
    if "stop" in given:
        stop = given["stop"]
        limits["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    user = given.get("safety_identifier") or given.get("user")
    return {**limits, "metadata": {"user_id": user}} if user else limits


def _sampling(given: JSONObject) -> JSONObject:
    """Translate sampling parameters, for the models that accept them."""
    model = given.get("model", "")
    if "claude" in model and not CLAUDE_WITH_SAMPLING.search(model):
        return {}
    sampling: JSONObject = {
        field: given[field] for field in ("temperature", "top_p") if field in given
    }
    if "temperature" in sampling:
        sampling["temperature"] = min(sampling["temperature"], HIGHEST_TEMPERATURE)
    return sampling


def _tools(given: JSONObject) -> JSONObject:
    """Translate tools and the choice among them, which Anthropic refuses without tools."""
    tools = [_tool(tool) for tool in given.get("tools", ())]
    if not tools:
        return {}
    choice = _tool_choice(given.get("tool_choice", "auto"))
    if given.get("parallel_tool_calls") is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return {"tools": tools, "tool_choice": choice}


def _tool(tool: JSONObject) -> JSONObject:
    """Translate a function; tools of Anthropic's own pass through."""
    if "function" not in tool:
        return tool  # one of Anthropic's own, such as its web search
    function = tool["function"]
    return {
        **_extras(tool, frozenset({"type", "function"})),
        **{key: function[key] for key in ("name", "description", "strict") if function.get(key)},
        "input_schema": function.get("parameters") or {"type": "object"},
    }


def _tool_choice(choice: str | JSONObject) -> JSONObject:
    """Translate the choice of a tool; choices of Anthropic's own pass through."""
    if isinstance(choice, str):
        return {"type": TOOL_CHOICES.get(choice, choice)}
    if choice["type"] == "function":
        return {"type": "tool", "name": choice["function"]["name"]}
    return {**choice}


def _output(given: JSONObject) -> JSONObject:
    """Translate effort and format of the output."""
    output: JSONObject = {}
    config: JSONObject = {}
    effort = given.get("reasoning_effort")
    if effort == "none":
        output["thinking"] = {"type": "disabled"}
    elif effort:
        config["effort"] = EFFORTS.get(effort, effort)
    wanted = given.get("response_format", {"type": "text"})
    if wanted["type"] == "json_schema":
        config["format"] = {"type": "json_schema", "schema": wanted["json_schema"]["schema"]}
    elif wanted["type"] != "text":
        raise ProviderRejectedError(
            f"Anthropic has no response format {wanted['type']!r}: use 'json_schema'",
            param="response_format",
        )
    return {**output, "output_config": config} if config else output
