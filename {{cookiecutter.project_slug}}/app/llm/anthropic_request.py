"""OpenAI chat bodies as bodies of Anthropic's Messages API.

Every field of OpenAI's format is translated, dropped (it would not change what the
answer says) or refused (without it the answer would not be what was asked for). A field
that OpenAI's format does not have (`thinking`, `top_k`, `container` …) is passed on as it is.
Whether a model takes a field is left to Anthropic, whose error names it. The exception
are `temperature` and `top_p`: Claude answers 400 to them since Opus 4.7, and what has
no effect there must not fail a request that only fell back to it.

Needs: `anthropic_conversation.py` and `base.py` beside it.
Source: https://platform.claude.com/docs/en/api/messages
"""

import re

from .anthropic_conversation import conversation, extras
from .base import JSONObject, ProviderRejectedError

TRANSLATED = frozenset(
    {
        "max_completion_tokens", "max_tokens", "messages", "metadata", "parallel_tool_calls",
        "reasoning_effort", "response_format", "safety_identifier", "stop", "temperature",
        "tool_choice", "tools", "top_p", "user",
    }
)  # fmt: skip
DROPPED = frozenset(
    {
        "frequency_penalty", "logit_bias", "logprobs", "modalities", "n", "prediction",
        "presence_penalty", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
        "seed", "service_tier", "store", "stream", "stream_options", "top_logprobs", "verbosity",
    }
)  # fmt: skip
REFUSED = frozenset({"audio", "function_call", "functions", "moderation", "web_search_options"})

HIGHEST_TEMPERATURE = 1.0  # OpenAI's scale goes to 2
# A closed list: no later model takes sampling parameters.
CLAUDE_WITH_SAMPLING = re.compile(
    r"claude-(instant|[23]|(opus|sonnet|haiku)-4(-[0-6])?([-@]20\d{6})?(?![-@]?\d))"
)
TOOL_CHOICES = {"required": "any"}  # the others have the same names
EFFORTS = {"minimal": "low"}


def messages_request(request: JSONObject, *, default_max_tokens: int) -> JSONObject:
    """Translate an OpenAI chat body; `default_max_tokens` holds where it sets no limit.

    Raises ProviderRejectedError, naming what cannot be translated.
    """
    given = {field: value for field, value in request.items() if value is not None}
    _refuse_unanswerable(given)
    try:
        return {
            **extras(given, TRANSLATED | DROPPED),
            **_conversation(given),
            **_limits(given, default_max_tokens),
            **_sampling(given),
            **_user(given),
            **_tools(given),
            **_output(given),
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise ProviderRejectedError(f"not a chat body in OpenAI's format: {error!r}") from error


def _refuse_unanswerable(given: JSONObject) -> None:
    for field in sorted(REFUSED & given.keys()):
        raise ProviderRejectedError(f"Anthropic has no counterpart of {field!r}", param=field)
    if given.get("n", 1) != 1:
        raise ProviderRejectedError(f"Anthropic gives one answer, not n = {given['n']}", param="n")


def _conversation(given: JSONObject) -> JSONObject:
    system, turns = conversation(given["messages"])
    return {"system": system, "messages": turns} if system else {"messages": turns}


def _limits(given: JSONObject, default_max_tokens: int) -> JSONObject:
    max_tokens = given.get("max_tokens", default_max_tokens)
    limits: JSONObject = {"max_tokens": given.get("max_completion_tokens", max_tokens)}
    if "stop" in given:
        stop = given["stop"]
        limits["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    return limits


def _sampling(given: JSONObject) -> JSONObject:
    model = given.get("model", "")
    if "claude" in model and not CLAUDE_WITH_SAMPLING.search(model):
        return {}
    sampling: JSONObject = {
        field: given[field] for field in ("temperature", "top_p") if field in given
    }
    if "temperature" in sampling:
        sampling["temperature"] = min(sampling["temperature"], HIGHEST_TEMPERATURE)
    return sampling


def _user(given: JSONObject) -> JSONObject:
    """Name the end user; of OpenAI's free `metadata` Anthropic takes nothing else."""
    of_metadata = given.get("metadata", {}).get("user_id")
    user = given.get("safety_identifier") or given.get("user") or of_metadata
    return {"metadata": {"user_id": user}} if user else {}


def _tools(given: JSONObject) -> JSONObject:
    tools = [_tool(tool) for tool in given.get("tools", ())]
    choice = _tool_choice(given.get("tool_choice", "auto"))
    if given.get("parallel_tool_calls") is False and tools and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    says_nothing = choice == {"type": "auto"} or (choice == {"type": "none"} and not tools)
    return {
        **({"tools": tools} if tools else {}),
        **({} if says_nothing else {"tool_choice": choice}),
    }


def _tool(tool: JSONObject) -> JSONObject:
    if "custom" in tool:
        raise ProviderRejectedError("Anthropic has no counterpart of 'custom' tools", param="tools")
    if "function" not in tool:
        return tool  # one of Anthropic's own, such as its web search
    function = tool["function"]
    return {
        **extras(tool, frozenset({"type", "function"})),
        **{key: function[key] for key in ("name", "description", "strict") if function.get(key)},
        "input_schema": function.get("parameters") or {"type": "object"},
    }


def _tool_choice(choice: str | JSONObject) -> JSONObject:
    if isinstance(choice, str):
        return {"type": TOOL_CHOICES.get(choice, choice)}
    if choice["type"] in ("allowed_tools", "custom"):
        raise ProviderRejectedError(
            f"Anthropic has no tool choice of type {choice['type']!r}", param="tool_choice"
        )
    if choice["type"] == "function":
        return {"type": "tool", "name": choice["function"]["name"]}
    return {**choice}


def _output(given: JSONObject) -> JSONObject:
    """Translate effort and format; where a request has Anthropic's own fields too, they win."""
    config: JSONObject = {}
    thinking: JSONObject = {}
    effort = given.get("reasoning_effort")
    if effort == "none":
        thinking = {"thinking": {"type": "disabled"}}
    elif effort:
        config["effort"] = EFFORTS.get(effort, effort)
    if "response_format" in given:
        config |= _format(given["response_format"])
    config |= given.get("output_config", {})
    return {
        **({} if "thinking" in given else thinking),
        **({"output_config": config} if config else {}),
    }


def _format(wanted: JSONObject) -> JSONObject:
    if wanted["type"] == "text":
        return {}
    if wanted["type"] == "json_schema":
        return {"format": {"type": "json_schema", "schema": wanted["json_schema"]["schema"]}}
    raise ProviderRejectedError(
        f"Anthropic has no response format {wanted['type']!r}: use 'json_schema'",
        param="response_format",
    )
