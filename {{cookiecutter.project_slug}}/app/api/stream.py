"""A stream of events as a response, for as long as its client is there.

A relay opens before the response starts, so that a failure up to the first event can still have a
status of its own; a later failure becomes the last event. It owns nothing: slot and provider
stream belong to the request's scope, so a client that leaves in mid-stream leaks nothing.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import structlog
from fastapi import Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import ClientDisconnect
from starlette.types import Send

from app.api.errors import log_fields
from app.errors import ServiceError
from app.llm.base import Chunk
from app.llm.stream import Interruptible
from app.retrieval.base import Retrieved

if TYPE_CHECKING:
    from app.api.admission import Answer

Result = TypeVar("Result")
log = structlog.get_logger(__name__)


class Events(Protocol):
    """How a route encodes its events; b"" sends nothing."""

    def queued(self, position: int) -> bytes:
        """Encode the place in the queue; 1 is next."""
        ...

    def sources(self, retrieved: Retrieved) -> bytes:
        """Encode what the answer may cite, the first as [1], and which sources are missing."""
        ...

    def chunks(self, chunks: list[Chunk]) -> bytes:
        """Encode a part of the answer."""
        ...

    def end(self, answer: "Answer") -> bytes:
        """Encode the end of a whole answer."""
        ...

    def error(self, error: Exception) -> bytes:
        """Encode the end of an answer that failed."""
        ...


class Relay:
    """Iterate over `events` but for empty ones; `encode_error` makes the event of a failure."""

    def __init__(
        self, events: AsyncGenerator[bytes], encode_error: Callable[[Exception], bytes]
    ) -> None:
        self._events = events
        self._encode_error = encode_error
        self._opening: bytes | None = None
        self._ended = False
        self._waits = Interruptible()
        self.interrupt = self._waits.interrupt
        """End the stream now with an error as its last event, also while it waits."""
        self.aclose = events.aclose

    async def open(self) -> None:
        """Wait for the first event; what fails until then is raised."""
        self._opening = await self._waits.wait(self._next)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._opening is not None:
            opening, self._opening = self._opening, None
            return opening
        if self._ended:
            raise StopAsyncIteration
        try:
            return await self._waits.wait(self._next)
        except StopAsyncIteration:
            raise
        except Exception as failure:
            self._ended = True
            if isinstance(failure, ServiceError):
                log.info("stream ended early", **log_fields(failure))
            else:
                log.exception("stream failed")
            return self._encode_error(failure)

    async def _next(self) -> bytes:
        while not (events := await self._events.__anext__()):
            pass
        return events


class EventStream(EventSourceResponse):
    """A response of encoded events, with a comment whenever `ping` seconds have passed.

    sse-starlette would encode each event and guard its sending with a scope of its own.
    """

    def __init__(self, events: Relay, *, headers: Mapping[str, str], ping: float) -> None:
        super().__init__(events, headers=headers, ping=ping, ping_message_factory=_ping)

    async def _stream_response(self, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        async for events in self.body_iterator:
            await send({"type": "http.response.body", "body": events, "more_body": True})
        async with self._send_lock:  # no ping may follow the end
            self.active = False
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _ping() -> ServerSentEvent:
    return ServerSentEvent(comment="ping", sep="\n")


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Do `work`, or cancel it when the client leaves and raise ClientDisconnect.

    Starlette watches for that only while it streams a response. The request's body must have been
    read: the next thing to receive is then the end.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_raise_on_disconnect(request))
            result = await work
            watching.cancel()
    except ExceptionGroup as group:
        failure = group.exceptions[0]
    else:
        return result
    raise failure  # out here, where it keeps its own cause


async def _raise_on_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    raise ClientDisconnect
