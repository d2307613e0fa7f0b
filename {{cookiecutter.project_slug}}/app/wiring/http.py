"""Builds the process's HTTP clients: one for the provider, one for everything else.

So a slow source of answers, or a batch of documents, takes no connection from the provider.
"""

import httpx

from app.http.client import build_http_client
from app.settings import Settings

SPARE_CONNECTIONS = 8
"""Beyond all limits on calls: a list of models takes no slot."""


def build_client(settings: Settings, *calls: int) -> httpx.AsyncClient:
    """Build a client with a connection for each call at once; by default the provider's."""
    connections = sum(calls or [settings.llm_max_concurrency], SPARE_CONNECTIONS)
    return build_http_client(
        max_connections=connections, connect_timeout=settings.llm_timeout_connect
    )


def build_source_client(settings: Settings) -> httpx.AsyncClient:
    """Build the client for sources and documents; a further source adds its slots."""
    return build_client(
        settings,
        settings.embedding_max_concurrency,  # optional: vector_store
        settings.serppost_request_slots,  # optional: ingestion_client
    )
