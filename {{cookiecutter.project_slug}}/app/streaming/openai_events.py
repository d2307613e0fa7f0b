"""The events of a streamed `/v1/chat/completions` as bytes, in OpenAI's format."""

from typing import Any

from pydantic_core import to_json

from app.llm.base import Chunk
from app.streaming.describe import describe

DONE = b"data: [DONE]\n\n"
INVALID = "invalid_request_error"
OPENAI_WORDS: dict[str, dict[str, str]] = {
    "unauthorized": {"type": INVALID, "code": "invalid_api_key"},
    "invalid_request": {"type": INVALID},
    "not_found": {"type": INVALID},
    "method_not_allowed": {"type": INVALID},
    "too_large": {"type": INVALID},
    "cost_above_limit": {"type": INVALID},
    "rate_limited": {"code": "rate_limit_exceeded"},
    "provider_rate_limited": {"code": "rate_limit_exceeded"},
}
"""What OpenAI says for a type of ours, where its clients act on the words."""


def chunk(sent: Chunk) -> bytes:
    """Pass a chunk on with all its fields."""
    return b"data: %b\n\n" % to_json(sent.body)


def error(failure: Exception) -> bytes:
    """End an answer that failed; no `[DONE]` follows."""
    return b"data: %b\n\n" % to_json(error_body(describe(failure)))


def error_body(described: dict[str, Any]) -> dict[str, Any]:
    """Return a described error as OpenAI sends it; `retry_after` is ours.

    Source: https://platform.openai.com/docs/guides/error-codes
    """
    kind = described["type"]
    code = None if kind == "invalid_request" else kind
    return {"error": {"param": None, "code": code, **described, **OPENAI_WORDS.get(kind, {})}}
