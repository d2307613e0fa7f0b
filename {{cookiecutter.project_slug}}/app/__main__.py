"""Serve: `python -m app`, with HOST, PORT and WORKERS from the environment.

It is uvicorn with the options that this service needs. Any ASGI server can run
`app.main:create_app` as a factory.
"""

import asyncio
import ipaddress
import os
import signal
import sys
from tempfile import TemporaryDirectory

import structlog
import uvicorn

from app.settings import load_settings
from app.telemetry.logs import configure_logging
from app.wiring.documents import check_documents  # optional: vector_store

AFTER_DRAIN = 3
"""Seconds for which uvicorn waits for connections after the service has drained."""

KEEP_ALIVE = 75
"""Seconds. A proxy must close idle connections earlier, as nginx does after 60."""

log = structlog.get_logger(__name__)


def main() -> None:
    """Run the server until a signal stops it; exit with 0, or with 1 and one line for a failure."""
    settings = load_settings()
    configure_logging(settings.log_level)  # for the parent of several workers
    try:
        addresses = asyncio.run(_bind_once(settings.host, settings.port))
    except (OSError, ValueError) as error:  # ValueError: nothing can have that name
        reason = getattr(error, "strerror", None) or error
        sys.exit(f"HOST={settings.host} PORT={settings.port}: {reason}")
    check_documents(settings)  # optional: vector_store
    if not settings.api_keys and not all(map(_is_loopback, addresses)):
        log.warning("API_KEYS is not set: anyone who reaches HOST has access", host=settings.host)
    # uvicorn raises the signal again after its shutdown: that is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with TemporaryDirectory(prefix="metrics-") as directory:
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        if settings.workers > 1:  # read when the workers import prometheus_client
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        uvicorn.run(
            "app.main:create_app",
            factory=True,
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=AFTER_DRAIN,
            timeout_keep_alive=KEEP_ALIVE,
        )


async def _bind_once(host: str, port: int) -> list[str]:
    """Bind as uvicorn will, and let go: it would say less, and only after it has started."""
    loop = asyncio.get_running_loop()
    serving = loop.create_server(asyncio.Protocol, host, port, start_serving=False)
    async with await serving as server:
        return [listener.getsockname()[0] for listener in server.sockets]


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


if __name__ == "__main__":
    main()
