"""What a client is told about an error, and what the log is.

    LimiterError              app.concurrency: no slot
    ├── QueueFull
    └── QueueTimeout
    ProviderError             app.llm: the provider failed; its tree is in app.llm.base
    RateLimitError            app.ratelimit: over a budget
    ├── RateLimited
    └── CostAboveLimit
    DrainingError             app.drain: the service is shutting down
    ServiceError              app.errors: the base of all others

`app.api.failures` maps them to HTTP statuses.
"""

from typing import Any

from app.concurrency.limiter import LimiterError
from app.drain import DrainingError
from app.errors import ServiceError
from app.llm.base import (
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
)
from app.ratelimit.protocol import RateLimitError

DOMAIN_ERRORS = (DrainingError, LimiterError, ProviderError, RateLimitError, ServiceError)
LATER_MAY_HELP = (
    DrainingError, LimiterError, ProviderOverloadedError, ProviderRateLimitedError,
)  # fmt: skip
DEFAULT_RETRY_AFTER = 5.0
"""Seconds, where trying again later may help and nobody said when."""


def describe(error: Exception) -> dict[str, Any]:
    """Return what a client is told: `type`, `message`, and `retry_after` in seconds if any.

    An error outside the tree is a defect of the service: its message stays in the log.
    """
    if not isinstance(error, DOMAIN_ERRORS):
        return {"type": "internal_error", "message": "the service failed to answer"}
    told: dict[str, Any] = {"type": error.type, "message": _message(error)}
    if error.retry_after is not None:
        told["retry_after"] = error.retry_after
    elif isinstance(error, LATER_MAY_HELP):
        told["retry_after"] = DEFAULT_RETRY_AFTER
    if isinstance(error, ProviderError):
        said = {"code": error.code, "param": error.param}
        told |= {name: value for name, value in said.items() if value is not None}
    return told


def _message(error: Exception) -> str:
    """Leave out what only the operator is to know: accounts, servers, files."""
    if isinstance(error, ServiceError):
        return error.public_message or str(error)
    return str(error)


def log_fields(error: Exception) -> dict[str, str]:
    """Return what an operator is told, in a log line; a bad request's words may quote a prompt."""
    kind = getattr(error, "type", type(error).__name__)
    quotes = isinstance(error, ProviderRejectedError)
    return {"error": kind} if quotes else {"error": kind, "detail": str(error)}
