"""The tree of domain errors: everything the service may say no with.

    LimiterError              app.concurrency: no slot
    ├── QueueFull
    └── QueueTimeout
    ProviderError             app.llm: the provider failed; its tree is in app.llm.protocol
    RateLimitError            app.ratelimit: over a budget
    ├── RateLimited
    └── CostAboveLimit
    RetrievalError            app.retrieval: a source that is required failed
    StoreError                app.stores: the documents cannot be reached
    JobQueueError             app.jobs: the document is stored, nobody could be told to work on it
    DrainingError             app.drain: the service is shutting down
    ServiceError              here: the service itself refuses
    ├── UnauthorizedError
    └── UnknownDocumentError

Each has a `type`, its name on the wire, and `retry_after`, the seconds after which trying
again makes sense, or None. The packages that people copy bring their own errors,
so there is no common base class; DOMAIN_ERRORS names the roots.
`app.api.failures` gives each its HTTP status.
"""

from typing import Any

from app.concurrency.limiter import LimiterError
from app.drain import DrainingError
from app.jobs.protocol import JobQueueError
from app.llm.protocol import (
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
)
from app.ratelimit.protocol import RateLimitError
from app.retrieval.protocol import RetrievalError
from app.stores.protocol import StoreError


class ServiceError(Exception):
    """The service itself refuses."""

    type = "service_error"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnauthorizedError(ServiceError):
    """The client sent no key, or one that is not known."""

    type = "unauthorized"


class UnknownDocumentError(ServiceError):
    """There is no document with this id."""

    type = "not_found"


DOMAIN_ERRORS = (
    DrainingError, JobQueueError, LimiterError, ProviderError, RateLimitError, RetrievalError,
    ServiceError, StoreError,
)  # fmt: skip
LATER_MAY_HELP = (
    DrainingError, JobQueueError, LimiterError, ProviderOverloadedError, ProviderRateLimitedError,
    RetrievalError, StoreError,
)  # fmt: skip
OF_OUR_OWN = {
    JobQueueError: "the document is kept, but its job was not taken on: hand it in again later",
    StoreError: "the store of documents cannot be reached, or is busy with that document",
}
"""What clients are told where the error itself names the operator's servers and files."""
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
    for kind, message in OF_OUR_OWN.items():
        if isinstance(error, kind):
            return message
    if isinstance(error, ProviderError) and not isinstance(error, ProviderRejectedError):
        return error.message
    return str(error)


def log_fields(error: Exception) -> dict[str, str]:
    """Return what an operator is told, in a log line; a bad request's words may quote a prompt."""
    kind = getattr(error, "type", type(error).__name__)
    quotes = isinstance(error, ProviderRejectedError)
    return {"error": kind} if quotes else {"error": kind, "detail": str(error)}
