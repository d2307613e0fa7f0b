"""From an answer to bytes on the socket: events, faults, compression, HTTP framing.

An answer is compiled once into steps, which the server only plays. Every body is sent chunked, as
providers do.
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from typing import Any

from .script import Action, Script, Step

EVENT_STREAM = "text/event-stream; charset=utf-8"
JSONObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in; header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool = True

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass(frozen=True, eq=False, slots=True)
class Answer:
    """What a wire format answers, in parts: the seconds to wait, then the bytes of an event."""

    parts: tuple[tuple[float, bytes], ...]
    status: int = 200
    content_type: str = "application/json"

    @classmethod
    def plain(cls, body: object, *, after: float = 0.0, status: int = 200) -> "Answer":
        """Answer with one JSON body."""
        return cls(((after, encode(body)),), status)

    @classmethod
    def stream(cls, parts: Iterable[tuple[float, bytes]]) -> "Answer":
        """Answer with server-sent events; see `sse`."""
        return cls(tuple(parts), content_type=EVENT_STREAM)


def encode(body: object) -> bytes:
    """Encode as JSON the way providers do: compact, and UTF-8 as it is."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def sse(data: object, event: str | None = None) -> bytes:
    """Encode one server-sent event; what is not bytes becomes JSON."""
    head = f"event: {event}\n".encode() if event else b""
    return head + b"data: %b\n\n" % (data if isinstance(data, bytes) else encode(data))


@lru_cache(maxsize=64)
def compiled(answer: Answer, script: Script) -> tuple[Step, ...]:
    """Compile an answer under a script into the steps that the server plays."""
    steps = _merged(_until_stopped(_events(answer, script)))
    if script.gzip:
        steps = _compressed(steps)
    steps = _framed(_until_stopped(_pieces(steps, script)))
    opening = [] if script.before_headers is None else [script.before_headers]
    return tuple(_merged([*opening, _head(answer, script), *steps]))


def _events(answer: Answer, script: Script) -> Iterator[Step]:
    count = len(answer.parts)
    extra = {index % count if index < 0 else index: s for index, s in script.before_event.items()}
    for index, (delay, event) in enumerate([*answer.parts, (0.0, b"")]):
        if index in extra:
            yield extra[index]
        if delay:
            yield delay
        yield event


def _until_stopped(steps: Iterable[Step]) -> Iterator[Step]:
    for step in steps:
        yield step
        if step in {Action.CUT, Action.RESET, Action.END}:
            return


def _merged(steps: Iterable[Step]) -> Iterator[Step]:
    """Send at once what no wait and no action separates."""
    for is_bytes, group in groupby(steps, lambda step: isinstance(step, bytes)):
        if is_bytes:
            yield b"".join(step for step in group if isinstance(step, bytes))
        else:
            yield from group


def _compressed(steps: Iterable[Step]) -> Iterator[Step]:
    compressor = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    for step in steps:
        if isinstance(step, bytes):
            yield compressor.compress(step) + compressor.flush(zlib.Z_SYNC_FLUSH)
        else:
            yield step
    yield compressor.flush()


def _pieces(steps: Iterable[Step], script: Script) -> Iterator[Step]:
    """Cut the bytes to size, an iteration of the event loop apart, with the actions between."""
    sent = 0
    for step in steps:
        if not isinstance(step, bytes):
            yield step
            continue
        places = {at - sent for at in script.at_byte if sent <= at < sent + len(step)}
        places.update(range(0, len(step), script.chunk_size or len(step) or 1))
        for start, end in pairwise([*sorted(places), len(step)]):
            if sent + start in script.at_byte:
                yield script.at_byte[sent + start]
            if start:
                yield 0.0
            yield step[start:end]
        sent += len(step)


def _framed(steps: Iterable[Step]) -> Iterator[Step]:
    step: Step | None = None
    for step in steps:
        if isinstance(step, bytes):
            yield b"%x\r\n%b\r\n" % (len(step), step) if step else b""
        elif step is not Action.END:
            yield step
    if step not in {Action.CUT, Action.RESET}:
        yield b"0\r\n\r\n"


def _head(answer: Answer, script: Script) -> bytes:
    headers = {
        "content-type": answer.content_type,
        "transfer-encoding": "chunked",
        "x-request-id": "req_fake",
        **({"content-encoding": "gzip"} if script.gzip else {}),
        **script.headers,
    }
    lines = [f"HTTP/1.1 {answer.status} ", *(f"{name}: {headers[name]}" for name in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
