"""No body beyond the limit is read, whether its length is announced or not, and none that stalls.

FastAPI's own `max_body_size` answers in plain text, past the middleware: its refusals
have neither the one shape of all others nor a request id, and are logged as status 500.
"""

import asyncio

from fastapi import status
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Raise HTTPException 413 in whoever reads a body of more than `max_bytes`.

    And 408 where nothing of it comes for `silence` seconds.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, silence: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._silence = silence

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        announced = int(length) if length.isdecimal() else 0
        received = 0
        whole = False

        async def counting_receive() -> Message:
            nonlocal received, whole
            self._check(announced)
            message = await (receive() if whole else self._in_time(receive))
            whole = not message.get("more_body")
            received += len(message.get("body", b""))
            self._check(received)
            return message

        await self._app(scope, counting_receive, send)

    async def _in_time(self, receive: Receive) -> Message:
        try:
            async with asyncio.timeout(self._silence):
                return await receive()
        except TimeoutError:
            raise HTTPException(
                status.HTTP_408_REQUEST_TIMEOUT,
                f"nothing of the body came for {self._silence:g} s",
            ) from None

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            raise HTTPException(
                status.HTTP_413_CONTENT_TOO_LARGE,
                f"the body is over the limit of {self._max_bytes} bytes",
            )
