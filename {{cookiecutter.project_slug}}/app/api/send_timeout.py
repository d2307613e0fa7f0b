"""A client that stays but does not read is as good as gone.

It would hold its slot for ever: the provider's deadlines rest while nobody wants the next
token. The response is told of a disconnect, and ends as after a real one.
"""

import asyncio

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.llm.stream import Interruptible

log = structlog.get_logger(__name__)


class _UnreadError(Exception):
    """The client has not read for too long."""


class SendTimeout:
    """Take a client for gone that leaves what was sent unread for `seconds`, or half as much more.

    One timer a request looks at the clock now and then; one for each message would cost more.
    """

    def __init__(self, app: ASGIApp, *, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        waits = Interruptible()
        sending_since: float | None = None
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer
            if sending_since is not None and loop.time() - sending_since >= self._seconds:
                waits.interrupt(_UnreadError())
            else:
                timer = loop.call_later(self._seconds / 2, look)

        async def timed_send(message: Message) -> None:
            nonlocal sending_since
            sending_since = loop.time()
            await send(message)
            sending_since = None

        async def receive_or_end() -> Message:
            try:
                return await waits.wait(receive)
            except _UnreadError:
                log.info("client does not read")
                return {"type": "http.disconnect"}

        timer = loop.call_later(self._seconds / 2, look)
        try:
            await self._app(scope, receive_or_end, timed_send)
        finally:
            timer.cancel()
