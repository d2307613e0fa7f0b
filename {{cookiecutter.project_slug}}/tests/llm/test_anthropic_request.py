"""OpenAI's chat bodies as bodies of the Messages API."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

from app.llm.anthropic_request import DROPPED, REFUSED, TRANSLATED, messages_request
from app.llm.base import JSONObject, ProviderRejectedError

from .judges import assert_anthropic_accepts

SAME_IN_BOTH = {"model"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Ask a station", "parameters": SCHEMA},
}
QUESTION: JSONObject = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
PLAIN: JSONObject = {
    "model": "m",
    "max_tokens": 500,
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
}


def translated(**fields: Any) -> JSONObject:
    """Translate a plain question with these fields."""
    return messages_request(QUESTION | fields, default_max_tokens=500)


def added(**fields: Any) -> JSONObject:
    """Translate and return what the fields add to a plain request."""
    body = translated(**fields)
    assert PLAIN.items() <= body.items()
    return {name: value for name, value in body.items() if name not in PLAIN}


def test_every_field_of_openai_is_translated_dropped_or_refused() -> None:
    """No field of OpenAI's format reaches Anthropic unseen, and none is in two tables."""
    tables = [SAME_IN_BOTH, TRANSLATED, DROPPED, REFUSED]
    assert set().union(*tables) == CompletionCreateParamsStreaming.__annotations__.keys()
    assert sum(map(len, tables)) == len(set().union(*tables))


def test_a_full_request_is_what_anthropic_takes() -> None:
    """Everything that is translated fits the official SDK's types."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    body = translated(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Look"}, image]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "sunny"},
        ],
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        stop="END",
        user="u-1",
        temperature=0.5,
        top_p=0.9,
        reasoning_effort="low",
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
        thinking={"type": "adaptive"},
    )
    assert_anthropic_accepts(body)
    assert body.keys() == {
        "model", "max_tokens", "messages", "system", "tools", "tool_choice", "stop_sequences",
        "metadata", "temperature", "top_p", "output_config", "thinking",
    }  # fmt: skip


def test_dropped_fields_change_nothing() -> None:
    """What only steers OpenAI's machinery is left out."""
    assert translated(**dict.fromkeys(DROPPED, 1)) == PLAIN


@pytest.mark.parametrize("field", sorted(REFUSED))
def test_fields_that_cannot_be_honoured_are_refused(field: str) -> None:
    """A field that would change the answer is refused by name, not left out."""
    with pytest.raises(ProviderRejectedError, match=field) as caught:
        translated(**{field: {"any": "value"}})
    assert caught.value.param == field


def test_more_than_one_answer_is_refused() -> None:
    """Anthropic gives one answer to a request."""
    with pytest.raises(ProviderRejectedError, match="n = 2"):
        translated(n=2)


def test_fields_of_anthropics_own_are_passed_on() -> None:
    """A field that OpenAI does not have reaches Anthropic as it is."""
    own = {"thinking": {"type": "adaptive"}, "top_k": 5, "speed": "fast"}
    assert added(**own) == own


def test_null_is_the_same_as_absent() -> None:
    """OpenAI's clients may send null for any option."""
    options = (TRANSLATED | DROPPED | REFUSED) - {"messages"}
    assert translated(**dict.fromkeys(options)) == PLAIN


@pytest.mark.parametrize(
    ("fields", "max_tokens"),
    [
        ({}, 500),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 8}, 8),
        ({"max_tokens": 7, "max_completion_tokens": 8}, 8),
        ({"max_tokens": 0}, 0),
    ],
)
def test_the_limit_is_the_requests_or_the_default(fields: JSONObject, max_tokens: int) -> None:
    """Anthropic demands a limit: the newer field wins, the default fills the gap."""
    assert translated(**fields)["max_tokens"] == max_tokens


@pytest.mark.parametrize(("given_", "sent"), [(0, 0), (0.7, 0.7), (1, 1), (1.5, 1), (2, 1)])
def test_temperature_is_cut_to_anthropics_scale(given_: float, sent: float) -> None:
    """OpenAI's scale ends at 2, Anthropic's at 1."""
    assert added(temperature=given_) == {"temperature": sent}


@pytest.mark.parametrize(
    ("model", "sampled"),
    [
        ("claude-3-haiku-20240307", True),
        ("claude-sonnet-4-20250514", True),
        ("claude-opus-4-1-20250805", True),
        ("claude-haiku-4-5", True),
        ("claude-sonnet-4-5@20250929", True),
        ("us.anthropic.claude-opus-4-6-v1:0", True),
        ("claude-opus-4-7", False),
        ("claude-opus-4-10", False),
        ("claude-sonnet-5", False),
        ("claude-sonnet-5-5", False),
        ("anthropic/claude-fable-5-2", False),
        ("qwen3", True),
    ],
)
def test_models_without_sampling_get_no_sampling_parameters(model: str, sampled: bool) -> None:
    """Newer models of Anthropic refuse them, which must not fail a request that fell back."""
    sampling = {"temperature": 0.5, "top_p": 0.9}
    sent = translated(model=model, **sampling)
    assert {field: sent[field] for field in sampling if field in sent} == (
        sampling if sampled else {}
    )


@pytest.mark.parametrize(("stop", "sent"), [("END", ["END"]), (["A", "B"], ["A", "B"])])
def test_stop_words_are_a_list(stop: Any, sent: list[str]) -> None:
    """One word or several become a list."""
    assert added(stop=stop) == {"stop_sequences": sent}


@pytest.mark.parametrize(
    ("fields", "user"),
    [
        ({"user": "old"}, "old"),
        ({"user": "old", "safety_identifier": "new"}, "new"),
        ({"metadata": {"user_id": "own", "team": "blue"}}, "own"),
    ],
)
def test_the_end_user_is_named(fields: JSONObject, user: str) -> None:
    """The user reaches Anthropic in its own field, and no other metadata does."""
    assert added(**fields) == {"metadata": {"user_id": user}}


def test_metadata_alone_is_dropped() -> None:
    """OpenAI's labels on stored completions mean nothing to Anthropic."""
    assert translated(metadata={"team": "blue"}) == PLAIN


def test_a_schema_for_the_answer_is_translated() -> None:
    """Structured output is a format of the output; plain text is the default."""
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": SCHEMA}}
    format_ = {"type": "json_schema", "schema": SCHEMA}
    assert added(response_format=wanted) == {"output_config": {"format": format_}}
    assert translated(response_format={"type": "text"}) == PLAIN


def test_json_without_a_schema_is_refused() -> None:
    """Anthropic cannot promise JSON without a schema, so nothing pretends that it does."""
    with pytest.raises(ProviderRejectedError, match="json_object"):
        translated(response_format={"type": "json_object"})


@pytest.mark.parametrize(
    ("effort", "sent"),
    [
        ("none", {"thinking": {"type": "disabled"}}),
        ("minimal", {"output_config": {"effort": "low"}}),
        ("low", {"output_config": {"effort": "low"}}),
        ("max", {"output_config": {"effort": "max"}}),
    ],
)
def test_effort_is_translated(effort: str, sent: JSONObject) -> None:
    """The levels have the same names; none means not to think."""
    assert added(reasoning_effort=effort) == sent


def test_anthropics_own_fields_win() -> None:
    """Who sends Anthropic's field beside OpenAI's means Anthropic's."""
    assert added(reasoning_effort="low", output_config={"effort": "max"}) == {
        "output_config": {"effort": "max"}
    }
    thinking = {"type": "adaptive"}
    assert added(reasoning_effort="none", thinking=thinking) == {"thinking": thinking}


def test_a_request_is_left_as_it_is() -> None:
    """The next provider in a fallback gets the same request."""
    request = QUESTION | {
        "tools": [WEATHER],
        "tool_choice": {"type": "any"},
        "parallel_tool_calls": False,
        "output_config": {"effort": "low"},
        "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
    }
    before = deepcopy(request)
    messages_request(request, default_max_tokens=500)
    assert request == before


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=5,
)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"]) | json_values},
    optional={
        "content": json_values
        | st.lists(
            st.fixed_dictionaries(
                {"type": st.sampled_from(["text", "image_url", "file", "refusal"])},
                optional=dict.fromkeys(["text", "image_url", "file"], json_values),
            )
        ),
        "tool_calls": json_values | st.lists(json_values),
        "tool_call_id": json_values,
    },
)


@given(
    fields=st.dictionaries(st.sampled_from(sorted(TRANSLATED | {"model"})), json_values),
    messages=json_values | st.lists(messages | json_values),
)
def test_whatever_a_client_sends_is_translated_or_refused(
    fields: JSONObject, messages: object
) -> None:
    """A body of any shape leads to a request or to a refusal, never to a crash."""
    try:
        body = messages_request({**fields, "messages": messages}, default_max_tokens=500)
    except ProviderRejectedError:
        return
    assert isinstance(body["messages"], list)
