"""The events of a streamed `/v1/chat/completions` as bytes, in OpenAI's format."""

from typing import Any

from pydantic_core import to_json

from app.llm.protocol import Chunk
from app.streaming.describe import describe

DONE = b"data: [DONE]\n\n"


def chunk(sent: Chunk) -> bytes:
    """Pass a chunk on with all its fields."""
    return b"data: %b\n\n" % to_json(sent.body)


def error(failure: Exception) -> bytes:
    """End an answer that failed; no `[DONE]` follows."""
    return b"data: %b\n\n" % to_json(error_body(describe(failure)))


def error_body(described: dict[str, Any]) -> dict[str, Any]:
    """Shape a described error as OpenAI does; `retry_after` is ours.

    Source: https://platform.openai.com/docs/guides/error-codes
    """
    return {"error": {"param": None, "code": described["type"], **described}}
