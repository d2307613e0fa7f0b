"""An id, a log line and metrics for every request.

Plain ASGI middleware: Starlette's BaseHTTPMiddleware would put a queue and a task between the
stream and its client. A stream is noted when it ends, with the time to its first byte.
"""

import re
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from app.telemetry.metrics import Metrics

REQUEST_ID = "X-Request-ID"
ACCEPTABLE_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
PROBES = {"/livez", "/readyz", "/metrics"}

log = structlog.get_logger("app.access")


@dataclass
class _Served:
    """What is known of a request so far; times are in seconds."""

    request_id: str
    started: float = field(default_factory=time.perf_counter)
    status: int = 500
    first_byte: float | None = None

    def note_start(self, message: Message) -> None:
        self.status = message["status"]
        self.first_byte = self.elapsed()
        MutableHeaders(scope=message)[REQUEST_ID] = self.request_id

    def elapsed(self) -> float:
        return time.perf_counter() - self.started


class RequestLog:
    """Bind a request id to the log context, return it to the client, note the request's end.

    A caller's own `X-Request-ID` is kept where it is short and plain.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        served = _Served(_request_id(Headers(scope=scope)))
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=served.request_id)

        def noting_send(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                served.note_start(message)
            return send(message)  # not awaited here: one coroutine less for each token

        try:
            await self._app(scope, receive, noting_send)
        finally:
            if scope["path"] not in PROBES:
                _log(scope, served)
                _count(scope, served)


def _log(scope: Scope, served: _Served) -> None:
    log.info(
        "request",
        method=scope["method"],
        path=scope["path"],
        status=served.status,
        first_byte_ms=served.first_byte and round(served.first_byte * 1000, 1),
        duration_ms=round(served.elapsed() * 1000, 1),
    )


def _count(scope: Scope, served: _Served) -> None:
    metrics: Metrics = scope["state"]["services"].metrics
    route = getattr(scope.get("route"), "path", "unmatched")  # a path would be a client's input
    method = scope["method"] if scope["method"] in METHODS else "other"
    metrics.count_request(
        method, route, served.status, first_byte=served.first_byte, duration=served.elapsed()
    )


def _request_id(headers: Headers) -> str:
    given = headers.get(REQUEST_ID, "")
    return given if ACCEPTABLE_ID.fullmatch(given) else uuid4().hex
