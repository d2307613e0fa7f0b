"""Answering: in a stream, or in one piece, and only for as long as somebody listens."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Send

from app.api.admission import Admission
from app.api.disconnect import while_connected
from app.streaming.relay import Relay

Result = TypeVar("Result")


class EventStream(EventSourceResponse):
    """Encoded events, with a comment whenever `ping` seconds have passed.

    sse-starlette would encode each event and guard its sending with a scope of its own.
    """

    async def _stream_response(self, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        async for events in self.body_iterator:
            await send({"type": "http.response.body", "body": events, "more_body": True})
        async with self._send_lock:  # no ping may follow the end
            self.active = False
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def stream_response(
    events: AsyncGenerator[bytes],
    *,
    encode_error: Callable[[Exception], bytes],
    request: Request,
    admission: Admission,
) -> EventStream:
    """Wait for the first of `events` and return a response that streams them all.

    What fails before the first event is raised, for a status of its own.
    """
    relay = Relay(events, encode_error=encode_error)
    admission.relay(relay)
    await while_connected(request, relay.open())
    interval = admission.services.settings.ping_interval
    return EventStream(relay, headers=admission.headers, ping=interval, ping_message_factory=_ping)


def _ping() -> ServerSentEvent:
    return ServerSentEvent(comment="ping", sep="\n")


async def plain_response(
    work: Coroutine[Any, Any, Result], *, request: Request, admission: Admission
) -> Result:
    """Do `work` for one whole answer, or stop it when the client goes."""
    async with admission.services.drain.bound():
        return await while_connected(request, work)
