"""Reading answers as leniently as the SDKs that users know, without taking a failure for one.

What both wire formats share: events that deviate from the standard, JSON that is not Unicode,
answers that were not streamed, and answers that say nothing.

Needs: msgspec, `base.py` and `sse.py`.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from msgspec import ValidationError
from msgspec.json import decode

from .base import BrokenStreamError, Chunk, JSONObject, ProviderError, without_nulls
from .sse import SSEDecoder

if TYPE_CHECKING:
    from .transport import HTTPProvider

MAX_HALVES = 64
"""Texts of an answer that may wait for the second half of a surrogate pair."""
FIRST_HALF, SECOND_HALF = "\ud800", "\udc00"
"""The lowest of each half of a surrogate pair."""
Halves = dict[tuple[object, ...], str]
"""First halves of surrogate pairs, by the place of their text in a JSON value."""


class AnswerReader:
    """Reads one streamed answer; a format's rules are in the `read` of its subclass.

    `is_finished` says whether the answer gave its reason to stop.
    """

    def __init__(self, source: "HTTPProvider") -> None:
        self.source = source
        self.is_finished = False
        self._has_content = False
        self._sse = SSEDecoder()
        self._halves: Halves = {}

    def read(self, name: str, data: bytes) -> Sequence[Chunk] | None:
        """Return the chunks of one event, None for the end mark; raises ProviderError."""
        raise NotImplementedError

    def feed(self, received: bytes) -> tuple[list[Chunk], bool, ProviderError | None]:
        """Decode one network read: its chunks, whether the end mark came, and what failed."""
        chunks: list[Chunk] = []
        try:
            for event in self._sse.feed(received):
                data = event.data.strip()
                if event.event == "error":
                    raise self.source.answer_error(data)
                has_ended = data.startswith(b"[DONE]")
                decoded = None if has_ended else self.read(event.event, data) if data else ()
                if decoded is None:
                    self._check()
                    return chunks, True, None
                chunks += self._noted(decoded)
        except ProviderError as error:
            return chunks, False, error
        return chunks, False, None

    def whole(self, completion: JSONObject) -> list[Chunk]:
        """Return the chunks of an answer that was not streamed."""
        try:
            chunks = [self.chunk(body) for body in _as_chunks(completion)]
        except (AttributeError, TypeError) as error:
            raise BrokenStreamError(f"{self.source.name} sent a malformed completion") from error
        self._noted(chunks)
        self._check()
        return chunks

    def decoded(self, data: bytes, decoder: Callable[[bytes], Chunk]) -> Chunk:
        """Decode an event once; one that is not Unicode is decoded, mended and encoded again."""
        if not self._halves:
            with suppress(ValueError, RecursionError):
                return decoder(data)
        return self.chunk(self.source.parse(data))

    def chunk(self, body: JSONObject) -> Chunk:
        """Make a chunk of its JSON object, in text that is Unicode."""
        try:
            return Chunk.of(mend(body, self._halves) if self._halves else body)
        except UnicodeEncodeError:
            return Chunk.of(mend(body, self._halves))
        except ValidationError as error:
            problem = f"{self.source.name} sent an event that is not a chunk: {error}"
            raise BrokenStreamError(problem) from error

    def _noted(self, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        """Note how far the answer has come with these chunks."""
        for chunk in chunks:
            self._has_content = self._has_content or chunk.has_content
            for choice in chunk.choices or ():
                self.is_finished = self.is_finished or bool(choice.finish_reason)
        return chunks

    def _check(self) -> None:
        if not self._has_content:
            raise BrokenStreamError(f"{self.source.name} sent an answer without content")


def _as_chunks(completion: JSONObject) -> list[JSONObject]:
    """Write a completion as the chunks of a stream."""
    head = {**completion, "object": "chat.completion.chunk", "usage": None}
    choices = []
    for choice in completion["choices"]:
        delta = {**(choice.get("message") or {})}
        if calls := delta.get("tool_calls"):
            numbered = enumerate(map(without_nulls, calls))
            delta["tool_calls"] = [{"index": at, **call} for at, call in numbered]
        choices.append({"index": 0, **without_nulls(choice), "delta": delta, "message": None})
    usage = {**head, "choices": [], "usage": completion.get("usage")}
    return [{**head, "choices": choices}, usage]


def read_json(data: bytes) -> Any:  # noqa: ANN401
    """Decode JSON as leniently as Python's SDKs: halves of surrogate pairs and NaN are read.

    Bytes that are not UTF-8 are replaced. ValueError if it is no JSON for them either, or nested
    too deeply.
    """
    try:
        return decode(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        return json.loads(data.decode("utf-8-sig", "replace"))


def mend(value: Any, held: Halves | None = None, place: tuple[object, ...] = ()) -> Any:  # noqa: ANN401
    """Return a JSON value with text that is Unicode; half a surrogate pair becomes U+FFFD.

    With `held`, a half at the end of a text waits there for the next event of the same answer.
    """
    if isinstance(value, dict):
        awaited = {key[-1]: "" for key in held or () if key[:-1] == place}
        given = {name: part for name, part in value.items() if part is not None}
        parts = {name: mend(part, held, (*place, name)) for name, part in (awaited | given).items()}
        return {_unicode(name): part for name, part in (value | parts).items()}
    if isinstance(value, list):
        return [mend(part, held, (*place, _index(part, at))) for at, part in enumerate(value)]
    if not isinstance(value, str):
        return value
    text = value
    if held is not None:
        text = held.pop(place, "") + value
        if value and FIRST_HALF <= value[-1] < SECOND_HALF and len(held) < MAX_HALVES:
            held[place], text = text[-1], text[:-1]
    return _unicode(text)


def _unicode(text: str) -> str:
    """Replace each half of a surrogate pair by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _index(part: object, at: int) -> int:
    """Return the number by which a part is continued, such as that of a tool call."""
    index = part.get("index") if isinstance(part, dict) else at
    return index if isinstance(index, int) else at
