"""The base of all errors that a client or a caller can act on, and the parser of Retry-After.

The packages that people copy need this module beside them; it imports nothing of the service.
"""

import math
import re
import time
from datetime import datetime
from email.utils import parsedate_to_datetime

LONGEST_WAIT = 86400.0
"""A day, in seconds."""
DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


class ServiceError(Exception):
    """An error with a `type`, its name on the wire.

    `permanent` is true if trying again cannot help; `retry_after` is the number of seconds after
    which trying again makes sense, or None. `public_message` is what clients see where the message
    itself names servers or files. `code` and `param` are those of an error in OpenAI's shape.
    """

    type = "service_error"
    permanent = False
    retry_after: float | None = None
    public_message: str | None = None
    code: str | None = None
    param: str | None = None

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        if retry_after is not None:
            self.retry_after = retry_after


class UnauthorizedError(ServiceError):
    """The client sent no API key, or an unknown one."""

    type = "unauthorized"


class InvalidRequestError(ServiceError):
    """The request is understood, and cannot be served as it is."""

    type = "invalid_request"


class ModelNotAllowedError(InvalidRequestError):
    """The service does not offer the model that the request names."""

    code = "model_not_found"
    param = "model"


def parse_retry_after(value: str, *, now: float | None = None) -> float | None:
    """Read a wait in seconds, from 0 to LONGEST_WAIT; None where the value is not a finite time.

    Accepts seconds and an HTTP date (RFC 9110, 10.2.3), and what providers send besides: durations
    (1m30.5s) and RFC 3339 times. `now` is in seconds since the epoch.
    """
    seconds = math.nan
    for read in (float, _duration, parsedate_to_datetime, datetime.fromisoformat):
        try:
            found = read(value)
            if isinstance(found, datetime):
                found = found.timestamp() - (time.time() if now is None else now)
        except (ValueError, OverflowError):  # a number too large for a date
            continue
        seconds = found
        break
    return min(max(0.0, seconds), LONGEST_WAIT) if math.isfinite(seconds) else None


def _duration(value: str) -> float:
    if not re.fullmatch(f"({DURATION_PART.pattern})+", value):
        raise ValueError(value)
    return sum(float(number) * SECONDS[unit] for number, unit in DURATION_PART.findall(value))
