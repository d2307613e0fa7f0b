"""The events of `POST /chat` as bytes.

An event is ready to send: encoding it here, once, is cheaper than handing a dict
to the response for each token.
"""

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from app.llm.base import Usage
from app.retrieval.base import Retrieved
from app.streaming.describe import describe


def queued(position: int) -> bytes:
    """Say that the answer waits for its turn; 1 is next."""
    return _event(b"queued", {"position": position})


def sources(retrieved: Retrieved) -> bytes:
    """Say what the answer may cite, the first as [1], and which sources are missing."""
    found = [
        {"title": one.title, "url": one.url, "snippet": one.snippet, "source": one.source}
        for one in retrieved.found
    ]
    degraded = [{"source": one.source, "reason": one.reason} for one in retrieved.degraded]
    return _event(b"sources", {"sources": found, "degraded": degraded})


def token(text: str) -> bytes:
    """Add a piece of text to the answer."""
    return b'event: token\ndata: {"text":%b}\n\n' % to_json(text)


def usage(counted: Usage) -> bytes:
    """Say what the answer cost."""
    tokens = {
        "prompt_tokens": counted.prompt_tokens,
        "completion_tokens": counted.completion_tokens,
    }
    return _event(b"usage", tokens)


def done(finish_reason: str) -> bytes:
    """End a whole answer."""
    return _event(b"done", {"finish_reason": finish_reason})


def error(failure: Exception) -> bytes:
    """End an answer that failed, with what a refusal before it would have said."""
    return _event(b"error", describe(failure))


def _event(name: bytes, data: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, to_json(data))
