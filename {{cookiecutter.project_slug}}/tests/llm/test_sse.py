"""The decoder against the standard's own algorithm, read literally."""

import re
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.llm.base import BrokenStreamError
from app.llm.sse import BYTE_ORDER_MARK, ServerSentEvent, SSEDecoder

Event = tuple[str, str]


def decode(*pieces: bytes) -> list[Event]:
    """Feed the pieces one after the other to one decoder."""
    decoder = SSEDecoder()
    return [(e.event, e.data.decode()) for piece in pieces for e in decoder.feed(piece)]


def standard(stream: bytes) -> list[Event]:
    """Interpret a whole stream as the WHATWG's text has it, step by step."""
    text = stream.decode("utf-8").removeprefix("\ufeff")
    *lines, _unfinished = re.split("\r\n|\n|\r", text)
    events, data, kind = [], "", ""
    for line in lines:
        if line == "":
            if data != "":
                events.append((kind or "message", data.removesuffix("\n")))
            data = kind = ""
        elif line.startswith(":"):
            continue
        else:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                kind = value
            elif field == "data":
                data += value + "\n"
    return events


LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=8)
FIELDS = st.sampled_from(
    ["data", "data", "event", "event", "id", "retry", "Data", "data ", " data", "", "x", "ev"]
)
LINES = st.one_of(
    st.builds("{}:{}".format, FIELDS, TEXT),
    st.builds("{}: {}".format, FIELDS, TEXT),
    st.sampled_from(["", "", "", "data", "event", ":", ": ping", "data: [DONE]", "data: {}"]),
    TEXT,
)
STREAMS = st.builds(
    lambda start, lines: (start + "".join(line + end for line, end in lines)).encode(),
    st.sampled_from(["", "", "\ufeff", "\ufeff\ufeff"]),
    st.lists(st.tuples(LINES, LINE_ENDS), max_size=25),
)


@settings(max_examples=25)
@given(STREAMS, st.lists(st.integers(0, 200), max_size=12))
@example(b"data: a\r\rdata: b\n\r\n\n", [])
@example(b"data: a\r\ndata: b\r\n\r\n", [])
@example(BYTE_ORDER_MARK + b"data: a\n\n", [])
@example(b"data\n\ndata\ndata\n\ndata:", [])
@example(b"data:  a\n\n", [])
@example(b"event: dropped\n\ndata: a\n\n", [])
@example(b"event: used\ndata: a\n\ndata: b\n\n", [])
@example(b"data: whole\n\ndata: half\n", [])
def test_events_are_those_of_the_standard(stream: bytes, cuts: list[int]) -> None:
    """A stream of any lines with any line ends, cut anywhere, yields the standard's events."""
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(places)]
    single = [stream[at : at + 1] for at in range(len(stream))]
    assert decode(*pieces) == decode(*single) == standard(stream)


@pytest.mark.parametrize("end", [b"\n", b"\r"])
def test_an_event_comes_out_with_the_byte_that_ends_it(end: bytes) -> None:
    """The first byte of the blank line, CR or LF, completes the event."""
    decoder = SSEDecoder()
    assert decoder.feed(b"event: ping\r\ndata: a\r\ndata: b\r\n") == []
    assert decoder.feed(end) == [ServerSentEvent("ping", b"a\nb")]


def test_data_is_not_decoded() -> None:
    """Data comes out as the bytes that came in; only the event's name is decoded."""
    events = SSEDecoder().feed(b"event: \xff\ndata: \xff\n\n")
    assert events == [ServerSentEvent("\ufffd", b"\xff")]


@pytest.mark.parametrize(
    ("endless", "at_most"),
    [
        (b"x" * 13, 80),
        (b"data: " + b"x" * 94, 11),
        (b"data: " + b"x" * 94 + b"\n", 11),
        (b"data\n", 1001),
    ],
)
def test_the_size_of_an_event_is_bounded(endless: bytes, at_most: int) -> None:
    """An event that never ends, in one line or in many, is an error as it passes the limit."""
    decoder = SSEDecoder(max_event_bytes=1000)
    with pytest.raises(BrokenStreamError, match="max_event_bytes, 1000"):
        any(decoder.feed(endless) for _ in range(at_most))


def test_the_size_of_a_stream_is_not_bounded() -> None:
    """Any number of events within the limit may pass, in one read too."""
    decoder = SSEDecoder(max_event_bytes=20)
    assert sum(len(decoder.feed(b"data: 0123456789\n\n")) for _ in range(1000)) == 1000
    assert len(decoder.feed(b"data: 0123456789\n\n" * 1000)) == 1000
