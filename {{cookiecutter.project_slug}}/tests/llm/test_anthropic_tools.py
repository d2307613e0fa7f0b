"""OpenAI's tools, and the choice among them, as Anthropic's."""

from typing import Any

import pytest

from app.llm.anthropic_request import messages_request
from app.llm.base import JSONObject, ProviderRejectedError

QUESTION: JSONObject = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Ask a station", "parameters": SCHEMA},
}


def translated(**fields: Any) -> JSONObject:
    """Translate a question with these fields and return what it says of tools."""
    body = messages_request(QUESTION | fields, default_max_tokens=500)
    return {field: body[field] for field in ("tools", "tool_choice") if field in body}


def test_functions_become_tools() -> None:
    """A function's parameters are a tool's input schema; unset options stay unset."""
    strict = {"type": "function", "function": {"name": "now", "strict": True}}
    unset = {"name": "today", "description": None, "strict": None, "parameters": None}
    assert translated(tools=[WEATHER, strict, {"type": "function", "function": unset}]) == {
        "tools": [
            {"name": "weather", "description": "Ask a station", "input_schema": SCHEMA},
            {"name": "now", "strict": True, "input_schema": {"type": "object"}},
            {"name": "today", "input_schema": {"type": "object"}},
        ]
    }


def test_anthropics_own_tools_are_passed_on() -> None:
    """A tool that OpenAI does not have reaches Anthropic as it is, and so does its field."""
    search = {"type": "web_search_20260209", "name": "web_search", "max_uses": 3}
    cached = {"cache_control": {"type": "ephemeral"}}
    tools = translated(tools=[search, WEATHER | cached])["tools"]
    assert tools[0] == search
    assert tools[1]["cache_control"] == {"type": "ephemeral"}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "sql"}}]}, "custom"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "allowed_tools"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "sql"}}}, "custom"),
    ],
)
def test_tools_without_a_counterpart_are_refused(fields: JSONObject, named: str) -> None:
    """A tool that Anthropic cannot call is named, not left out."""
    with pytest.raises(ProviderRejectedError, match=named):
        translated(**{"tools": [WEATHER], **fields})


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", None),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
        ({"type": "tool", "name": "f"}, {"type": "tool", "name": "f"}),
    ],
)
def test_the_choice_of_a_tool_is_translated(choice: Any, sent: JSONObject | None) -> None:
    """Each of OpenAI's choices has one of Anthropic's; auto is the default of both."""
    assert translated(tools=[WEATHER], tool_choice=choice).get("tool_choice") == sent


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", {"type": "any", "disable_parallel_tool_use": True}),
        ("none", {"type": "none"}),
    ],
)
def test_parallel_calls_can_be_switched_off(choice: str, sent: JSONObject) -> None:
    """Anthropic says it in the choice, where there is one to make."""
    body = translated(tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False)
    assert body["tool_choice"] == sent


def test_parallel_calls_are_the_default() -> None:
    """Allowing what is allowed says nothing."""
    assert "tool_choice" not in translated(tools=[WEATHER], parallel_tool_calls=True)


def test_without_tools_nothing_is_said_of_them() -> None:
    """Anthropic refuses choices about tools that are not there."""
    assert translated(tools=[], tool_choice="none", parallel_tool_calls=False) == {}
    assert translated(tool_choice="auto", parallel_tool_calls=False) == {}


def test_a_forced_choice_without_tools_is_anthropics_to_refuse() -> None:
    """A contradiction is not smoothed over."""
    assert translated(tool_choice="required") == {"tool_choice": {"type": "any"}}
