"""Anthropic's events and messages as OpenAI's chunks and completions."""

from collections.abc import Iterable
from typing import Any

import pytest

from app.llm.anthropic_answer import COUNTS, ChunkTranslator, completion
from app.llm.base import Chunk, JSONObject, Usage, usage_of

from .judges import accumulated, calls_of, parsed

CREATED = 1_800_000_000
STOP_REASONS = [
    ("end_turn", "stop"),
    ("stop_sequence", "stop"),
    ("pause_turn", "stop"),
    ("max_tokens", "length"),
    ("model_context_window_exceeded", "length"),
    ("tool_use", "tool_calls"),
    ("refusal", "content_filter"),
    ("a_reason_of_the_future", "stop"),
]


def start(**usage: int) -> JSONObject:
    """Begin a message."""
    message = {"id": "msg_1", "model": "claude", "role": "assistant", "content": []}
    return {"type": "message_start", "message": {**message, "usage": usage}}


def block(index: int, content: JSONObject, *deltas: JSONObject) -> list[JSONObject]:
    """Write one content block in full."""
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text_block(index: int, *pieces: str) -> list[JSONObject]:
    """Write a block of text."""
    deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
    return block(index, {"type": "text", "text": ""}, *deltas)


def tool_block(index: int, identity: str, *pieces: str, kind: str = "tool_use") -> list[JSONObject]:
    """Write a block that calls a tool."""
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return block(index, {"type": kind, "id": identity, "name": "weather", "input": {}}, *deltas)


def end(reason: str | None = "end_turn", **usage: int) -> list[JSONObject]:
    """End a message."""
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [{"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]


def translated(events: Iterable[JSONObject]) -> list[Chunk]:
    """Translate the events of one answer."""
    translator = ChunkTranslator(created=CREATED)
    chunks = [translator.chunk(event) for event in events]
    return [chunk for chunk in chunks if chunk is not None]


def deltas(events: Iterable[JSONObject]) -> list[JSONObject]:
    """Translate events and keep what the chunks say."""
    return [choice["delta"] for chunk in translated(events) for choice in chunk.body["choices"]]


def message(*content: JSONObject, **fields: Any) -> JSONObject:
    """Write a whole message."""
    usage = {"input_tokens": 3, "output_tokens": 2}
    head = {"id": "msg_1", "model": "claude", "stop_reason": "end_turn", "usage": usage}
    return {**head, "content": list(content), **fields}


def test_text_becomes_content() -> None:
    """The first chunk names the role, then come the pieces, the reason and the usage."""
    chunks = translated([start(input_tokens=3), *text_block(0, "Hel", "lo"), *end(output_tokens=2)])
    head = {"id": "msg_1", "object": "chat.completion.chunk", "created": CREATED, "model": "claude"}
    assert all(chunk.body.items() >= head.items() for chunk in chunks)
    assert [chunk.body["choices"][0]["delta"] for chunk in chunks[:-1]] == [
        {"role": "assistant", "content": ""}, {"content": "Hel"}, {"content": "lo"}, {},
    ]  # fmt: skip
    assert [chunk.finish_reason for chunk in chunks] == [None, None, None, "stop", None]
    assert chunks[-1].body["choices"] == []
    assert [chunk.usage for chunk in chunks] == [*[None] * 4, Usage(3, 2)]


def test_the_role_alone_is_no_content() -> None:
    """Waiting for the first token does not end with the start of the message."""
    assert [chunk.has_content for chunk in translated([start(input_tokens=3)])] == [False]


def test_text_may_come_with_the_start_of_its_block() -> None:
    """A server that begins a block with words loses none."""
    assert deltas(block(0, {"type": "text", "text": "Hi"})) == [{"content": "Hi"}]


def test_tool_calls_are_numbered_from_zero() -> None:
    """Blocks count everything, OpenAI's indexes only the calls; OpenAI's helper adds them up."""
    calls = [*tool_block(1, "a", "", '{"city":', '"Bern"}'), *tool_block(3, "b", '{"city":"Ulm"}')]
    events = [start(input_tokens=3), *text_block(0, "Wait"), *calls, *end("tool_use")]
    (choice,) = accumulated(translated(events)).choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Wait"
    assert calls_of(choice.message) == [
        ("a", "weather", '{"city":"Bern"}'),
        ("b", "weather", '{"city":"Ulm"}'),
    ]


@pytest.mark.parametrize("pieces", [(), ("",), ("{}",)])
def test_a_call_without_arguments_has_an_empty_object(pieces: tuple[str, ...]) -> None:
    """Clients parse the arguments as JSON, which an empty string is not."""
    *_, last = deltas(tool_block(0, "a", *pieces))
    assert last == {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}
    assert len(deltas(tool_block(0, "a", *pieces))) == 2


def test_thinking_is_reasoning_content() -> None:
    """Thinking has the field that other servers use; signatures and hidden thoughts have none."""
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    thought = {"type": "thinking_delta", "thinking": "Hm."}
    signature = {"type": "signature_delta", "signature": "c2ln"}
    hidden = {"type": "redacted_thinking", "data": "eHl6"}
    events = [*block(0, thinking, thought, signature), *block(1, hidden), *text_block(2, "Yes")]
    assert deltas(events) == [{"reasoning_content": "Hm."}, {"content": "Yes"}]


def test_what_the_server_does_by_itself_is_passed_over() -> None:
    """A tool that Anthropic runs is no call for the client to answer."""
    result = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
    search = tool_block(0, "s", '{"query":"x"}', kind="server_tool_use")
    events = [*search, *block(1, result), *tool_block(2, "a", "{}")]
    assert [delta["tool_calls"][0]["index"] for delta in deltas(events)] == [0, 0]


def test_what_does_not_exist_yet_is_passed_over() -> None:
    """Unknown events, blocks and deltas are no errors: Anthropic announces that they will come."""
    citation = {"type": "citations_delta", "citation": {}}
    unknown = [{"type": "ping"}, {"type": "message_mood", "mood": "fine"}]
    events = [*unknown, *block(0, {"type": "song"}, {"type": "note_delta", "note": "c"}, citation)]
    assert translated(events) == []


@pytest.mark.parametrize(("stop_reason", "finish_reason"), STOP_REASONS)
def test_stop_reasons_are_translated(stop_reason: str, finish_reason: str) -> None:
    """Each reason has one of OpenAI's, streamed or not; an unknown one is a plain end."""
    streamed = translated(end(stop_reason))
    assert streamed[0].finish_reason == finish_reason
    plain = parsed(completion(message(stop_reason=stop_reason), created=CREATED))
    assert plain.choices[0].finish_reason == finish_reason


def test_a_message_delta_without_a_reason_ends_nothing() -> None:
    """Only the reason ends an answer: there may be several such events."""
    events = [start(input_tokens=3), end(None)[0], *end("max_tokens", output_tokens=9)]
    chunks = translated(events)
    assert [chunk.finish_reason for chunk in chunks] == [None, "length", None]


def test_a_refusal_is_explained() -> None:
    """Anthropic's explanation is the refusal, streamed or not."""
    details = {"type": "refusal", "category": "cyber", "explanation": "No."}
    delta = {"stop_reason": "refusal", "stop_details": details}
    (chunk,) = translated([{"type": "message_delta", "delta": delta, "usage": {}}])
    assert chunk.text == "No."
    plain = parsed(completion(message(**delta), created=CREATED))
    assert plain.choices[0].message.refusal == "No."


@pytest.mark.parametrize(
    "details",
    [
        None,
        {"type": "refusal", "explanation": None},
        {"type": "refusal"},
        {"type": "of_the_future", "explanation": "?"},
    ],
)
def test_a_refusal_may_be_silent(details: JSONObject | None) -> None:
    """Without an explanation there is only the reason."""
    delta = {"stop_reason": "refusal", "stop_details": details}
    assert deltas([{"type": "message_delta", "delta": delta, "usage": {}}]) == [{}]


def test_usage_is_the_last_word_on_each_count() -> None:
    """Counts are cumulative, and an event repeats only those that it knows."""
    opening = start(input_tokens=3, cache_read_input_tokens=10, output_tokens=1)
    closing = end("end_turn", output_tokens=7)
    closing[0]["usage"]["input_tokens"] = None
    *_, last = translated([opening, *end(None, output_tokens=4)[:1], *closing])
    assert last.usage == Usage(13, 7)


def test_cached_tokens_are_part_of_the_prompt() -> None:
    """Anthropic counts what the cache read and wrote beside the rest, OpenAI within it."""
    usage = {
        "input_tokens": 1,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 300,
        "output_tokens": 5,
        "output_tokens_details": {"thinking_tokens": 4},
    }
    counted = parsed(completion(message(usage=usage), created=CREATED)).usage
    assert counted is not None
    assert counted.to_dict() == {
        "prompt_tokens": 321,
        "completion_tokens": 5,
        "total_tokens": 326,
        "prompt_tokens_details": {"cached_tokens": 300, "cache_write_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }


def test_unknown_usage_is_not_zero() -> None:
    """A server that counts nothing leads to no usage at all, nor to a count of thinking."""
    assert [chunk.usage for chunk in translated([start(), *end()])] == [None, None]
    usage = completion(message(), created=CREATED)["usage"]
    assert usage["completion_tokens_details"] == {}


@pytest.mark.parametrize("odd", ["x", -1, 1.5, [3], {"a": 1}, 10**400])
@pytest.mark.parametrize("name", COUNTS)
def test_odd_usage_is_unknown(name: str, odd: Any) -> None:
    """A count that makes no sense leads to no usage; the answer is whole, streamed or not."""
    counts = {"input_tokens": 3, "output_tokens": 2, name: odd}
    chunks = translated([start(**counts), *end(**counts)])
    assert [chunk.finish_reason for chunk in chunks] == [None, "stop"]
    plain = completion(message(usage=counts), created=CREATED)
    assert parsed(plain).usage is None


@pytest.mark.parametrize("odd", [5, "x", [], [1], None, {}])
def test_usage_that_is_no_object_is_unknown(odd: Any) -> None:
    """What counts nothing is passed over; the counts of other events stay."""
    assert parsed(completion(message(usage=odd), created=CREATED)).usage is None
    silent = {name: part for name, part in message().items() if name != "usage"}
    assert parsed(completion(silent, created=CREATED)).usage is None
    opening, (delta, stop) = start(input_tokens=3, output_tokens=2), end()
    delta["usage"] = odd
    assert translated([opening, delta, stop])[-1].usage == Usage(3, 2)
    opening["message"]["usage"] = odd
    assert [chunk.usage for chunk in translated([opening, delta, stop])] == [None, None]


def test_odd_details_of_usage_are_passed_over() -> None:
    """The counts themselves are known where only their breakdown makes no sense."""
    counts = {"input_tokens": 3, "output_tokens": 2, "output_tokens_details": [4]}
    assert usage_of(completion(message(usage=counts), created=CREATED)) == Usage(3, 2)


def test_the_end_mark_is_noticed() -> None:
    """Only message_stop makes an answer whole."""
    translator = ChunkTranslator(created=CREATED)
    delta, stop = end()
    translator.chunk(delta)
    assert not translator.ended
    translator.chunk(stop)
    assert translator.ended


def test_a_whole_message_becomes_a_completion() -> None:
    """Text, tool calls and thinking have their places; the rest is passed over."""
    answer = completion(
        message(
            {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
            {"type": "text", "text": "Let me "},
            {"type": "song"},
            {"type": "text", "text": "see."},
            {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Zürich"}},
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
            stop_reason="tool_use",
        ),
        created=CREATED,
    )
    parsed(answer)
    assert answer["id"] == "msg_1"
    assert answer["model"] == "claude"
    assert answer["created"] == CREATED
    assert usage_of(answer) == Usage(3, 2)
    assert answer["choices"] == [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "logprobs": None,
            "message": {
                "role": "assistant",
                "content": "Let me see.",
                "refusal": None,
                "reasoning_content": "Hm.",
                "tool_calls": [
                    {
                        "id": "a",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"Zürich"}'},
                    }
                ],
            },
        }
    ]


def test_content_is_null_beside_tool_calls_alone() -> None:
    """As with OpenAI, an answer that says nothing has text, one that only calls has none."""
    call = {"type": "tool_use", "id": "a", "name": "weather", "input": {}}
    only_calls = completion(message(call), created=CREATED)["choices"][0]["message"]
    assert only_calls["content"] is None
    says_nothing = completion(message(), created=CREATED)["choices"][0]["message"]
    assert says_nothing == {"role": "assistant", "content": "", "refusal": None}
