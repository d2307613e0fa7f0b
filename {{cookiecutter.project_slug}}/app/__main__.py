"""Serve: `python -m app`, with HOST, PORT and WORKERS from the environment.

It is uvicorn with the options that this service needs. Any ASGI server can run
`app.main:create_app` as a factory.
"""

import asyncio
import os
import signal
import sys
from tempfile import TemporaryDirectory

import uvicorn

from app.settings import load_settings
from app.telemetry.logs import configure_logging
from app.wiring.documents import check_documents  # optional: vector_store

AFTER_DRAIN = 3
"""Seconds for which uvicorn waits for connections after the service has drained."""


def main() -> None:
    """Run the server until a signal stops it; exit with 0, or with 1 and one line for a failure."""
    settings = load_settings()
    configure_logging(settings.log_level)  # for the parent of several workers
    try:
        asyncio.run(_bind_once(settings.host, settings.port))
    except (OSError, ValueError) as error:  # ValueError: nothing can have that name
        reason = getattr(error, "strerror", None) or error
        sys.exit(f"HOST={settings.host} PORT={settings.port}: {reason}")
    check_documents(settings)  # optional: vector_store
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
        )


async def _bind_once(host: str, port: int) -> None:
    """Bind as uvicorn will, and let go: it would say less, and only after it has started."""
    loop = asyncio.get_running_loop()
    (await loop.create_server(asyncio.Protocol, host, port, start_serving=False)).close()


if __name__ == "__main__":
    main()
