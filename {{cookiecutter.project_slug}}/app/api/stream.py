"""A stream of events as a response, for as long as its client is there.

A stream opens before its response starts, so that a failure up to the first event can still have a
status of its own; a later failure becomes the last event. It owns nothing: slot and provider
stream belong to the request's scope, so a client that leaves in mid-stream leaks nothing.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import structlog
from fastapi import Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from app.api.errors import log_fields
from app.errors import ServiceError
from app.llm.base import Chunk, JSONObject
from app.llm.stream import Interruptible
from app.retrieval.base import Retrieved

if TYPE_CHECKING:
    from app.api.admission import Answer

Result = TypeVar("Result")
PING_EVENT = ServerSentEvent(comment="ping", sep="\n")
PING = PING_EVENT.encode()
"""A comment, which clients skip: it keeps proxies from cutting a silent stream."""
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


def described(retrieved: Retrieved) -> JSONObject:
    """Return what was retrieved as JSON: `sources` and `degraded`."""
    sources = [
        {"title": one.title, "url": one.url, "snippet": one.snippet, "source": one.source}
        for one in retrieved.found
    ]
    degraded = [{"source": one.source, "reason": one.reason} for one in retrieved.degraded]
    return {"sources": sources, "degraded": degraded}


class EventStream(EventSourceResponse):
    """A response of encoded `events`; `encode_error` makes the last one where they fail.

    A comment follows whenever `ping` seconds have passed. A client that reads nothing for
    `send_timeout` seconds after one has left. sse-starlette would encode each event and guard its
    sending with a scope of its own.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes],
        encode_error: Callable[[Exception], bytes],
        *,
        ping: float,
        send_timeout: float,
    ) -> None:
        super().__init__(
            events, ping=ping, ping_message_factory=lambda: PING_EVENT, send_timeout=send_timeout
        )
        self._events = events
        self._encode_error = encode_error
        self._waits = Interruptible()
        self.interrupt = self._waits.interrupt
        """End the stream now with an error as its last event, also while it waits."""
        self.aclose = events.aclose

    async def open(self) -> None:
        """Wait for the first event; what fails until then is raised."""
        self._opening = await self._waits.wait(self._next)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            log.info("client does not read")

    async def _stream_response(self, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        events, last = self._opening, b""
        try:
            while True:
                await send({"type": "http.response.body", "body": events, "more_body": True})
                events = await self._waits.wait(self._next)
        except StopAsyncIteration:
            pass
        except Exception as failure:
            if isinstance(failure, ServiceError):
                log.info("stream ended early", **log_fields(failure))
            else:
                log.exception("stream failed")
            last = self._encode_error(failure)
        async with self._send_lock:  # no ping may follow the end
            self.active = False
            await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _next(self) -> bytes:
        while not (events := await self._events.__anext__()):
            pass
        return events


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
