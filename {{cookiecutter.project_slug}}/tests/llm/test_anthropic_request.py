"""OpenAI's chat bodies as bodies of the Messages API, judged by the vendors' SDKs."""

from copy import deepcopy
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from pydantic import TypeAdapter

from app.llm.anthropic.request import OPENAI_FIELDS, REFUSED, messages_request
from app.llm.base import JSONObject, ProviderRejectedError

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "Ask a station", "parameters": SCHEMA}
WEATHER = {"type": "function", "function": FUNCTION}
TOOL = {"name": "weather", "description": "Ask a station", "input_schema": SCHEMA}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
SEARCH = {"type": "web_search_20260209", "name": "web_search"}
AUTO = {"type": "auto"}
ADAPTIVE = {"type": "adaptive"}
CACHED = {"cache_control": {"type": "ephemeral"}}
SIGNED = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
REDACTED = {"type": "redacted_thinking", "data": "eHl6"}
MESSAGES: JSONObject = {"messages": [{"role": "user", "content": "Hi"}]}


def text(words: str) -> JSONObject:
    """Write a text, which looks the same in both formats."""
    return {"type": "text", "text": words}


def call(arguments: str | None, *, identity: str = "c") -> JSONObject:
    """Write a tool call as OpenAI does."""
    function = {"name": "weather", "arguments": arguments}
    return {"id": identity, "type": "function", "function": function}


def use(arguments: JSONObject, *, identity: str = "c") -> JSONObject:
    """Write a tool call as Anthropic does."""
    return {"type": "tool_use", "id": identity, "name": "weather", "input": arguments}


def image(url: str) -> JSONObject:
    """Write an image as OpenAI does."""
    return {"type": "image_url", "image_url": {"url": url, "detail": "high"}}


def user(*content: Any) -> JSONObject:
    """Write a message of the user, or a turn."""
    return {"role": "user", "content": list(content)}


def assistant(*content: Any, **fields: Any) -> JSONObject:
    """Write a message of the assistant, or a turn."""
    return {"role": "assistant", "content": list(content), **fields}


def result(content: Any, *, identity: str = "c", **fields: Any) -> JSONObject:
    """Write a tool's result as OpenAI does."""
    return {"role": "tool", "tool_call_id": identity, "content": content, **fields}


def translated(**fields: Any) -> JSONObject:
    """Translate a plain question with these fields; it must be one that Anthropic accepts."""
    request = {"model": "m", **MESSAGES, **fields}
    before = deepcopy(request)
    body = messages_request(request)
    assert request == before, "the next provider in a fallback gets the same request"
    return body


PLAIN = translated()
MESSAGES_REQUEST: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)


def read(validated: Any) -> Any:
    """Read what was validated to its end, as pydantic checks the items of an iterable then."""
    if isinstance(validated, dict):
        return {name: read(value) for name, value in validated.items()}
    if isinstance(validated, str | bytes | int | float | None):
        return validated
    return [read(value) for value in validated]


def test_every_field_of_openai_is_known() -> None:
    """No field of OpenAI's format reaches Anthropic unseen."""
    assert OPENAI_FIELDS | {"model"} == CompletionCreateParamsStreaming.__annotations__.keys()


@pytest.mark.parametrize(
    ("fields", "added"),
    [
        ({}, {"max_tokens": 16_384}),
        ({"seed": 1, "logprobs": True, "stream_options": {}, "store": True, "n": 1}, {}),
        (dict.fromkeys(OPENAI_FIELDS - {"messages"}), {}),
        ({"thinking": ADAPTIVE, "top_k": 5}, {"thinking": ADAPTIVE, "top_k": 5}),
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": 7, "max_completion_tokens": 8}, {"max_tokens": 8}),
        ({"temperature": 0.7, "top_p": 0.9}, {"temperature": 0.7, "top_p": 0.9}),
        ({"temperature": 2}, {"temperature": 1}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["A", "B"]}, {"stop_sequences": ["A", "B"]}),
        ({"user": "old"}, {"metadata": {"user_id": "old"}}),
        ({"user": "old", "safety_identifier": "new"}, {"metadata": {"user_id": "new"}}),
        ({"response_format": {"type": "text"}}, {}),
        (
            {"response_format": FORMAT},
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        ),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        ({"reasoning_effort": "minimal"}, {"output_config": {"effort": "low"}}),
        ({"reasoning_effort": "max"}, {"output_config": {"effort": "max"}}),
        ({"reasoning_effort": "none", "thinking": ADAPTIVE}, {"thinking": ADAPTIVE}),
        ({"tools": [], "tool_choice": "none", "parallel_tool_calls": False}, {}),
        ({"tools": [WEATHER | CACHED]}, {"tools": [TOOL | CACHED], "tool_choice": AUTO}),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]},
            {
                "tools": [{"name": "f", "strict": True, "input_schema": {"type": "object"}}],
                "tool_choice": AUTO,
            },
        ),
        (
            {"tools": [SEARCH], "tool_choice": "none", "parallel_tool_calls": False},
            {"tools": [SEARCH], "tool_choice": {"type": "none"}},
        ),
        (
            {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False},
            {"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
        ),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "f"}},
        ),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "f"}},
            {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "f"}},
        ),
    ],
)  # fmt: skip
def test_fields_are_translated(fields: JSONObject, added: JSONObject) -> None:
    """Each field has its counterpart, or none; fields of Anthropic's own pass through and win."""
    assert translated(**fields) == PLAIN | added


@pytest.mark.parametrize(
    ("messages", "turns"),
    [
        ([user(text("One")), user(text("Two"))], [user(text("One"), text("Two"))]),
        ([user(text("\n code ")), user(text(" \n"))], [user(text("\n code "))]),
        ([user(text("Hi")), assistant(), assistant(text(""))], [user(text("Hi"))]),
        ([user(text("Hi") | CACHED)], [user(text("Hi") | CACHED)]),
        ([assistant(refusal="No.")], [assistant(text("No."))]),
        ([assistant({"type": "refusal", "refusal": "No."})], [assistant(text("No."))]),
        (
            [assistant(text("So."), tool_calls=[call('{"city": "Zürich"}')])],
            [assistant(text("So."), use({"city": "Zürich"}))],
        ),
        *(
            ([assistant(tool_calls=[call(nothing)])], [assistant(use({}))])
            for nothing in ("", "{}", None)
        ),
        (
            [assistant(text("So."), thinking_blocks=[SIGNED | {"index": 0}])],
            [assistant(SIGNED, text("So."))],
        ),
        ([assistant(text("So."), SIGNED, REDACTED)], [assistant(SIGNED, REDACTED, text("So."))]),
        (
            [
                assistant(tool_calls=[call("{}", identity="functions.weather:0")]),
                user(text("And?")),
                result("sunny", identity="functions.weather:0", name="f", is_error=True),
                result([text("rainy"), text("")]),
            ],
            [
                assistant(use({}, identity="functions_weather_0")),
                user(
                    {
                        "type": "tool_result",
                        "tool_use_id": "functions_weather_0",
                        "content": "sunny",
                        "is_error": True,
                    },
                    {"type": "tool_result", "tool_use_id": "c", "content": [text("rainy")]},
                    text("And?"),
                ),
            ],
        ),
        *(
            ([user(image(url))], [user({"type": "image", "source": source})])
            for url, source in (
                ("https://x/cat.png", {"type": "url", "url": "https://x/cat.png"}),
                (
                    "data:image/png;base64,AA==",
                    {"type": "base64", "media_type": "image/png", "data": "AA=="},
                ),
                (
                    "data:image/png;name=a.png;base64,AA==",
                    {"type": "base64", "media_type": "image/png", "data": "AA=="},
                ),
            )
        ),
    ],
)  # fmt: skip
def test_messages_become_turns(messages: list[JSONObject], turns: list[JSONObject]) -> None:
    """Turns alternate, without empty text, tool results first, ids in Anthropic's characters."""
    system = [{"role": "system", "content": "Be brief."}]
    later = [{"role": "developer", "content": [text("In German.")]}]
    body = translated(messages=[*system, *messages, *later])
    assert body["messages"] == turns
    assert body["system"] == [text("Be brief."), text("In German.")], "wherever it was"
    assert read(MESSAGES_REQUEST.validate_python(body)) == body, "the SDK's types are as strict"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        *(({field: {"any": "value"}}, field) for field in sorted(REFUSED)),
        ({"n": 2}, "n = 2"),
        ({"response_format": {"type": "json_object"}}, "json_object"),
        *(
            ({"messages": [assistant(tool_calls=[call(arguments)])]}, "arguments of 'weather'")
            for arguments in ("{", "[1]", "null", '{"a": NaN}', "[" * 9000)
        ),
        *(
            ({"messages": [user(image(url))]}, "data URL")
            for url in ("file:///etc/passwd", "data:image/svg+xml,<svg/>", "blob:a;base64,AA==", "")
        ),
        ({"messages": [user({"type": "file", "file": {}})]}, "'file' content part"),
        ({"messages": [{"role": "function", "content": "sunny"}]}, "function"),
        ({"messages": [assistant(tool_calls=[{"id": "a", "type": "custom"}])]}, "function"),
        ({"messages": None}, "messages"),
    ],
)
def test_what_has_no_counterpart_is_refused(fields: JSONObject, named: str) -> None:
    """What would change the answer is refused by name, in a short message, and not left out."""
    with pytest.raises(ProviderRejectedError, match=named) as caught:
        translated(**fields)
    assert len(str(caught.value)) < 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=5,
)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"])},
    optional=dict.fromkeys(["content", "tool_calls", "tool_call_id"], json_values),
)


@settings(max_examples=25)
@given(
    fields=st.dictionaries(
        st.sampled_from(sorted(OPENAI_FIELDS - REFUSED | {"model"})), json_values
    ),
    messages=json_values | st.lists(messages),
)
def test_whatever_a_client_sends_is_translated_or_refused(
    fields: JSONObject, messages: object
) -> None:
    """A body of any shape leads to a request or to a refusal, never to a crash."""
    try:
        body = messages_request({**fields, "messages": messages})
    except ProviderRejectedError:
        return
    assert isinstance(body["messages"], list)
