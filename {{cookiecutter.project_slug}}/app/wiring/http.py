"""Builds the process's one HTTP client."""

import httpx

from app.http import build_http_client
from app.settings import Settings

SPARE_CONNECTIONS = 8
"""Beyond all limits on calls: connections that are closing still count in the pool."""


def build_client(settings: Settings) -> httpx.AsyncClient:
    """Build a client with a connection for every call that the limits allow at once."""
    calls = (
        SPARE_CONNECTIONS,
        settings.llm_max_concurrency,
        settings.embedding_max_concurrency,  # optional: vector_store
        settings.serppost_request_slots,  # optional: ingestion_client
    )
    return build_http_client(
        max_connections=sum(calls), connect_timeout=settings.llm_timeout_connect
    )
