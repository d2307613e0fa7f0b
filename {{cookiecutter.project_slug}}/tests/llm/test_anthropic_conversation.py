"""OpenAI's messages as Anthropic's system prompt and turns."""

from typing import Any

import pytest

from app.llm.anthropic_conversation import conversation
from app.llm.base import JSONObject, ProviderRejectedError

PNG = "data:image/png;base64,iVBORw0KGgo="


def text(words: str) -> JSONObject:
    """Write a text, which looks alike in both formats."""
    return {"type": "text", "text": words}


def call(arguments: str | None, *, identity: str = "call_1", name: str = "weather") -> JSONObject:
    """Write a tool call as OpenAI does."""
    return {
        "id": identity,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def user_blocks(*parts: JSONObject) -> Any:
    """Translate the parts of one message."""
    _, (turn,) = conversation([{"role": "user", "content": list(parts)}])
    return turn["content"]


def assistant_blocks(**message: Any) -> Any:
    """Translate one message of the assistant."""
    _, (turn,) = conversation([{"role": "assistant", **message}])
    return turn["content"]


def test_system_and_developer_messages_go_to_the_front() -> None:
    """Instructions from anywhere in the conversation become the system prompt, in order."""
    system, turns = conversation(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "developer", "content": [text("Answer in German.")]},
        ]
    )
    assert system == [text("Be brief."), text("Answer in German.")]
    assert turns == [{"role": "user", "content": [text("Hi")]}]


def test_consecutive_messages_of_a_role_are_one_turn() -> None:
    """Turns alternate, whatever the messages do."""
    _, turns = conversation(
        [
            {"role": "user", "content": "One"},
            {"role": "user", "content": "Two"},
            {"role": "assistant", "content": "Three"},
            {"role": "assistant", "content": "Four"},
        ]
    )
    assert turns == [
        {"role": "user", "content": [text("One"), text("Two")]},
        {"role": "assistant", "content": [text("Three"), text("Four")]},
    ]


def test_tool_results_are_first_in_one_turn_of_the_user() -> None:
    """All results of a turn's calls stand together, before what the user says."""
    _, turns = conversation(
        [
            {"role": "assistant", "tool_calls": [call("{}"), call("{}", identity="call_2")]},
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
            {"role": "user", "content": "And?"},
            {"role": "tool", "tool_call_id": "call_2", "content": [text("rainy"), text("")]},
        ]
    )
    assert [turn["role"] for turn in turns] == ["assistant", "user"]
    assert turns[1]["content"] == [
        {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"},
        {"type": "tool_result", "tool_use_id": "call_2", "content": [text("rainy")]},
        text("And?"),
    ]


def test_tool_calls_follow_what_the_assistant_says() -> None:
    """A tool call becomes a block with its arguments parsed."""
    blocks = assistant_blocks(content="Let me see.", tool_calls=[call('{"city": "Zürich"}')])
    assert blocks == [
        text("Let me see."),
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Zürich"}},
    ]


@pytest.mark.parametrize("arguments", ["", "{}", None])
def test_a_call_without_arguments_has_an_empty_input(arguments: str | None) -> None:
    """No arguments are an empty object, however they are written."""
    assert assistant_blocks(content=None, tool_calls=[call(arguments)])[0]["input"] == {}


@pytest.mark.parametrize("arguments", ["{", "[1]", "null", '"text"', '{"a": NaN}', "[" * 9000])
def test_arguments_that_are_no_json_object_are_refused(arguments: str) -> None:
    """Arguments that Anthropic cannot take are refused under the name of the tool."""
    with pytest.raises(ProviderRejectedError, match="arguments of 'weather'"):
        assistant_blocks(tool_calls=[call(arguments)])


def test_ids_of_other_providers_fit_and_still_match() -> None:
    """A tool id with characters that Anthropic refuses is changed alike in call and result."""
    identity = "functions.weather:0"
    _, (asked, answered) = conversation(
        [
            {"role": "assistant", "tool_calls": [call("{}", identity=identity)]},
            {"role": "tool", "tool_call_id": identity, "content": "sunny"},
        ]
    )
    assert asked["content"][0]["id"] == "functions_weather_0"
    assert answered["content"][0]["tool_use_id"] == "functions_weather_0"


@pytest.mark.parametrize("nothing", ["", " \n", None, [], [text("")], [text(" ")]])
def test_empty_text_is_left_out(nothing: Any) -> None:
    """Anthropic refuses text without a visible character, and turns without content."""
    system, turns = conversation(
        [
            {"role": "system", "content": nothing},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": nothing},
            {"role": "user", "content": nothing},
        ]
    )
    assert system == []
    assert turns == [{"role": "user", "content": [text("Hi")]}]


def test_white_space_around_words_stays() -> None:
    """Text is passed on to the letter."""
    assert user_blocks(text("\n code ")) == [text("\n code ")]


def test_refusals_are_text() -> None:
    """What the assistant refused to do is part of what it said."""
    assert assistant_blocks(content=None, refusal="No.") == [text("No.")]
    assert assistant_blocks(content=[{"type": "refusal", "refusal": "No."}]) == [text("No.")]


def test_images_are_sent_as_bytes() -> None:
    """A data URL becomes bytes with their media type."""
    image = {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}}
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    assert user_blocks(image) == [{"type": "image", "source": source}]


@pytest.mark.parametrize("url", ["https://example.com/cat.png", "http://example.com/cat.png"])
def test_images_are_sent_by_address(url: str) -> None:
    """Anthropic fetches what has a web address."""
    image = {"type": "image_url", "image_url": {"url": url}}
    assert user_blocks(image) == [{"type": "image", "source": {"type": "url", "url": url}}]


def test_parameters_of_a_data_url_are_no_part_of_the_media_type() -> None:
    """RFC 2397 allows parameters between the media type and the bytes."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;name=a.png;base64,AA=="}}
    assert user_blocks(image)[0]["source"]["media_type"] == "image/png"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "data:image/svg+xml,<svg/>",
        "data:image/png;base64",
        "image/png;base64,AA==",
        "blob:image/png;base64,AA==",
        "",
    ],
)
def test_other_addresses_of_images_are_refused(url: str) -> None:
    """Only web addresses and base64 data URLs lead to an image."""
    with pytest.raises(ProviderRejectedError, match="data URL"):
        user_blocks({"type": "image_url", "image_url": {"url": url}})


def test_an_error_does_not_repeat_a_whole_image() -> None:
    """A message names what it is about and stays short."""
    with pytest.raises(ProviderRejectedError) as caught:
        user_blocks({"type": "image_url", "image_url": {"url": "data:image/png," + "A" * 9000}})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}, "input_audio"),
        ({"type": "hologram"}, "hologram"),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,AA=="}}, "file"),
    ],
)
def test_parts_without_a_counterpart_are_refused(part: JSONObject, named: str) -> None:
    """A part that Anthropic cannot take is named, not left out."""
    with pytest.raises(ProviderRejectedError, match=named):
        user_blocks(part)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"role": "function", "name": "weather", "content": "sunny"}, "function"),
        ({"role": "assistant", "function_call": {"name": "f", "arguments": ""}}, "function_call"),
        ({"role": "assistant", "audio": {"id": "audio_1"}}, "audio"),
        ({"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}, "custom"),
    ],
)
def test_messages_without_a_counterpart_are_refused(message: JSONObject, named: str) -> None:
    """A message that Anthropic cannot take is named, not left out."""
    with pytest.raises(ProviderRejectedError, match=named):
        conversation([message])


def test_fields_of_anthropics_own_stay_on_parts_and_results() -> None:
    """A field that OpenAI does not have is meant for Anthropic."""
    cached = {"cache_control": {"type": "ephemeral"}}
    asked = {"role": "user", "content": [{**text("Hi"), **cached, "prompt_cache_breakpoint": {}}]}
    failed = {"role": "tool", "tool_call_id": "a", "content": "no", "name": "f", "is_error": True}
    _, (turn,) = conversation([asked, failed])
    assert turn["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "no", "is_error": True},
        {**text("Hi"), **cached},
    ]
