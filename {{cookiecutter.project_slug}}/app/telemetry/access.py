"""An id, a log line and metrics for every request, and one line for a failed start.

Plain ASGI middleware: Starlette's BaseHTTPMiddleware would put a queue and a task between the
stream and its client. A stream is logged when it ends, with the time to its first byte.
"""

import re
import sys
import time
from collections.abc import Awaitable
from functools import partial
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = "X-Request-ID"
ACCEPTABLE_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
PROBES = {"/livez", "/health", "/readyz", "/metrics"}

log = structlog.get_logger("app.access")


class RequestLog:
    """Bind a request id to the log context, send it to the client, and record the request's end.

    A client's own `X-Request-ID` is kept if it is short and plain.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != "http":
            await self._app(scope, receive, partial(_send_in_one_line, send))
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if ACCEPTABLE_ID.fullmatch(given) else uuid4().hex
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started, status, first_byte = time.perf_counter(), 500, None

        def recording_send(message: Message) -> Awaitable[None]:
            nonlocal status, first_byte
            if message["type"] == "http.response.start":
                status, first_byte = message["status"], time.perf_counter() - started
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            return send(message)  # not awaited here: one coroutine less for each token

        try:
            await self._app(scope, receive, recording_send)
        finally:
            if scope["path"] not in PROBES:
                _record(scope, status, first_byte, time.perf_counter() - started)


async def _send_in_one_line(send: Send, message: Message) -> None:
    """Name what failed to start or to stop in one line; Starlette would send a traceback."""
    error = sys.exception()
    if error is not None and message["type"].endswith(".failed"):
        log.debug("lifespan failed", exc_info=error)
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        text = " ".join(str(error).split())
        message = {**message, "message": f"{type(error).__name__}: {text}"}
    await send(message)


def _record(scope: Scope, status: int, first_byte: float | None, duration: float) -> None:
    log.info(
        "request",
        method=scope["method"],
        path=scope["path"],
        status=status,
        first_byte_ms=first_byte and round(first_byte * 1000, 1),
        duration_ms=round(duration * 1000, 1),
    )
    route = getattr(scope.get("route"), "path", "unmatched")  # a path would be a client's input
    method = scope["method"] if scope["method"] in METHODS else "other"
    count = scope["state"]["services"].metrics.count_request
    count(method, route, status, first_byte=first_byte, duration=duration)
