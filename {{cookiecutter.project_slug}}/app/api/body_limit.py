"""No body beyond the limit is read, whether its length is announced or not.

FastAPI's own `max_body_size` answers in plain text, past the middleware: its refusals
have neither the one shape of all others nor a request id, and are logged as status 500.
"""

from fastapi import status
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Raise HTTPException 413 in whoever reads a body of more than `max_bytes`."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        announced = int(length) if length.isdecimal() else 0
        received = 0

        async def counting_receive() -> Message:
            nonlocal received
            self._check(announced)
            message = await receive()
            received += len(message.get("body", b""))
            self._check(received)
            return message

        await self._app(scope, counting_receive, send)

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            raise HTTPException(
                status.HTTP_413_CONTENT_TOO_LARGE,
                f"the body is over the limit of {self._max_bytes} bytes",
            )
