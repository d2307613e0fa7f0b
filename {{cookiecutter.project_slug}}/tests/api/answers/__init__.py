"""What real providers send, and what clients get: bytes → outcome, in a table for each wire format.

The cases are public bug reports of comparable systems, written anew, and their siblings.
"""

import json
from dataclasses import dataclass
from typing import Any

BROKEN, UNAVAILABLE = "provider_broken_stream", "provider_unavailable"
OVERLOADED, LIMITED = "provider_overloaded", "provider_rate_limited"
INVALID = "invalid_request_error"


@dataclass
class Outcome:
    """What a client has at the end; `status` is that of a failure before the first byte."""

    text: str = ""
    finish: str | None = None
    error: str | None = None
    status: int | None = None
    calls: tuple[str, ...] = ()
    reasoning: str = ""


Case = tuple[bytes, Outcome] | tuple[bytes, Outcome, tuple[str, ...]]
"""What is sent, what comes of it, and what is to be found in what `/v1` gives out."""


def says(text: str = "", finish: str | None = "stop", **more: Any) -> Outcome:
    """Expect a whole answer."""
    return Outcome(text, "tool_calls" if "calls" in more else finish, **more)


def fails(error: str = BROKEN, status: int | None = 502, text: str = "") -> Outcome:
    """Expect a failure: with a status, or as the last event after this text."""
    return Outcome(text, error=error, status=None if text else status)


def dumped(body: Any) -> bytes:
    """Write JSON with all escapes, as halves of surrogate pairs need them."""
    return json.dumps(body).encode()


FLAT = {"object": "error", "message": "busy", "type": "server_error", "code": 503}
"""An error as some servers send it, whatever the wire format."""
