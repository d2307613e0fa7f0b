"""From an answer to bytes on the socket: events, faults, compression, HTTP framing.

An answer is compiled once into steps (bytes to send, seconds to wait, actions),
which the server only plays. Every body is sent chunked, as providers do.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from itertools import groupby, pairwise
from typing import Any

from .script import Action, Script, Step

EVENT_STREAM = "text/event-stream; charset=utf-8"
GZIP = 16 + zlib.MAX_WBITS
LAST_CHUNK = b"0\r\n\r\n"
NEXT_TURN = 0.0
STOPS = frozenset({Action.CUT, Action.RESET, Action.END})


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


@dataclass(frozen=True, slots=True)
class WireFormat:
    """One provider's API: which requests are its own, what it answers, how it words errors.

    `recognises` tells by the headers; None takes every request.
    `routes` maps "METHOD /path" to the answer; `error` gives the body for a status.
    """

    routes: Mapping[str, Callable[[Request, Script], Answer]]
    error: Callable[[int, Request], object]
    recognises: Callable[[Request], bool] | None = None

    def answer(self, request: Request, script: Script) -> Answer:
        """Answer a request as the script says."""
        route = self.routes.get(f"{request.method} {request.path}")
        status = script.status if route else HTTPStatus.NOT_FOUND.value
        if script.body is not None:
            return Answer(((script.duration, script.body),), status)
        if route is None or status != HTTPStatus.OK:
            return Answer.plain(self.error(status, request), status=status)
        return route(request, script)


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
    before = (script.before_headers, script.headers_delay or None)
    opening = (step for step in before if step is not None)
    return tuple(_merged([*opening, _head(answer, script), *steps]))


def _events(answer: Answer, script: Script) -> Iterator[Step]:
    count = len(answer.parts)
    extra = {index % count if index < 0 else index: s for index, s in script.before_event.items()}
    for index, (delay, event) in enumerate(answer.parts):
        if index in extra:
            yield extra[index]
        if delay:
            yield delay
        yield event if answer.content_type != EVENT_STREAM else _spelled(event, script)
    if count in extra:
        yield extra[count]


def _spelled(event: bytes, script: Script) -> bytes:
    return (b": ping\n\n" * script.pings + event).replace(b"\n", script.line_end)


def _until_stopped(steps: Iterable[Step]) -> Iterator[Step]:
    for step in steps:
        yield step
        if step in STOPS:
            return


def _merged(steps: Iterable[Step]) -> Iterator[Step]:
    """Send at once what no wait and no action separates."""
    for is_bytes, group in groupby(steps, lambda step: isinstance(step, bytes)):
        if is_bytes:
            yield b"".join(step for step in group if isinstance(step, bytes))
        else:
            yield from group


def _compressed(steps: Iterable[Step]) -> Iterator[Step]:
    compressor = zlib.compressobj(wbits=GZIP)
    for step in steps:
        if isinstance(step, bytes):
            yield compressor.compress(step) + compressor.flush(zlib.Z_SYNC_FLUSH)
        else:
            yield step
    yield compressor.flush()


def _pieces(steps: Iterable[Step], script: Script) -> Iterator[Step]:
    """Cut the bytes to size, a turn of the event loop apart, with the actions in their places."""
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
                yield NEXT_TURN
            yield step[start:end]
        sent += len(step)


def _framed(steps: Iterable[Step]) -> Iterator[Step]:
    step: Step | None = None
    for step in steps:
        if isinstance(step, bytes):
            yield b"%x\r\n%b\r\n" % (len(step), step)
        elif step is not Action.END:
            yield step
    if step not in {Action.CUT, Action.RESET}:
        yield LAST_CHUNK


def _head(answer: Answer, script: Script) -> bytes:
    headers = {
        "content-type": answer.content_type,
        "transfer-encoding": "chunked",
        "x-request-id": "req_fake",
        **({"content-encoding": "gzip"} if script.gzip else {}),
        **script.headers,
    }
    lines = [f"HTTP/1.1 {answer.status} {_phrase(answer.status)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
