"""A decoder for server-sent events that arrive in pieces.

Feed it bytes as the network delivers them; it returns the events that they complete. It handles any
split (in the middle of a character, between CR and LF), CRLF, LF and CR, comments, several `data`
lines and a byte order mark, and it bounds the size of an event. A last event without its blank line
is dropped, as the standard says.

Needs: `base.py`, for its error.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from typing import NamedTuple

from .base import BrokenStreamError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAX_EVENT = 20 * 1024 * 1024
"""Bytes: an image of 15 MiB as a data URL fits."""


class ServerSentEvent(NamedTuple):
    """One event: its type ("message" where none was given) and its data, undecoded."""

    event: str
    data: bytes


class SSEDecoder:
    """Turn the bytes of one event stream into events.

    An unfinished event of more than `max_event_bytes` raises BrokenStreamError.
    """

    def __init__(self, *, max_event_bytes: int = MAX_EVENT) -> None:
        self._max_event_bytes = max_event_bytes
        self._pieces: list[bytes] = []
        self._after_carriage_return = False
        self._at_start = True
        self._event = ""
        self._data: list[bytes] = []
        self._data_size = self._line_size = 0  # bytes of the unfinished event, and of its last line

    def feed(self, received: bytes) -> list[ServerSentEvent]:
        """Take the bytes of one read and return the events that they complete, in order."""
        events = []
        for line in self._complete_lines(received):
            if line:
                self._take_field(line)
                continue
            if self._data:
                events.append(ServerSentEvent(self._event or "message", b"\n".join(self._data)))
            self._data = []
            self._event = ""
            self._data_size = 0
        self._check_size()
        return events

    def _complete_lines(self, received: bytes) -> list[bytes]:
        self._pieces.append(received)
        self._line_size += len(received)
        if not self._at_start and b"\n" not in received and b"\r" not in received:
            return []  # a long line is joined once, at its end
        text = b"".join(self._pieces)
        self._pieces.clear()
        if self._at_start and text:
            if BYTE_ORDER_MARK.startswith(text):  # perhaps the first bytes of one
                self._pieces.append(text)
                return []
            self._at_start = False
            text = text.removeprefix(BYTE_ORDER_MARK)
        if self._after_carriage_return and text:
            text = text.removeprefix(b"\n")
            self._after_carriage_return = False
        if b"\r" in text:
            self._after_carriage_return = text.endswith(b"\r")
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, unfinished = text.split(b"\n")
        self._pieces.append(unfinished)
        self._line_size = len(unfinished)
        return lines

    def _take_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._data_size += len(value) + 1  # an empty line of data takes memory too
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")

    def _check_size(self) -> None:
        held = self._data_size + self._line_size
        if held > self._max_event_bytes:
            raise BrokenStreamError(
                f"an event of {held} bytes is over max_event_bytes, {self._max_event_bytes}"
            )
