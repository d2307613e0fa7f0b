"""Answering: in a stream, or in one piece, and only for as long as somebody listens."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request

from app.api.admission import Admission
from app.api.disconnect import while_connected
from app.streaming.relay import Relay

Result = TypeVar("Result")


async def opened_relay(
    events: AsyncGenerator[bytes],
    *,
    encode_error: Callable[[Exception], bytes],
    request: Request,
    admission: Admission,
) -> Relay:
    """Wait for the first of `events` and return them all as a response's body.

    What fails before the first event is raised, for a status of its own.
    """
    relay = Relay(events, encode_error=encode_error)
    admission.relay(relay)
    await while_connected(request, relay.open())
    return relay


async def plain_response(
    work: Coroutine[Any, Any, Result], *, request: Request, admission: Admission
) -> Result:
    """Do `work` for one whole answer, or stop it when the client goes."""
    async with admission.services.drain.bound():
        return await while_connected(request, work)
