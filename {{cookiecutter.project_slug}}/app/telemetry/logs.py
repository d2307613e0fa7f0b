"""Structured logs: one JSON object a line, or colours in a terminal.

The log lines of the server and of libraries have the same format. Prompts, answers, keys and the
local variables of tracebacks are never logged. Every line of a request has its id.
"""

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import Processor

NOISY = ("httpx", "uvicorn.access", "sse_starlette")


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Send every log line of `level` and above to `stream` (stderr), once, in one format."""
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(for_a_person=stream.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    for name in NOISY:  # they repeat what the access log says, or log every chunk
        logging.getLogger(name).setLevel(logging.WARNING)


def _rendering(*, for_a_person: bool) -> list[Processor]:
    if for_a_person:
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [structlog.processors.ExceptionRenderer(frames), structlog.processors.JSONRenderer()]
