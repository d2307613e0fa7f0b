"""The sources of answers: documents and the web, asked side by side.

A source of your own is a class with `name` and `search`, and a line that gives it its slots.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from app.retrieval.base import Degraded, Source
from app.retrieval.gather import Retriever
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.wiring.documents import Documents, open_documents  # optional: vector_store
from app.wiring.http import build_source_client  # optional: vector_store, ingestion_client
from app.wiring.websearch import open_web  # optional: ingestion_client

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What answers are made from."""

    retriever: Retriever
    documents: Documents  # optional: vector_store


@asynccontextmanager
async def open_retrieval(settings: Settings, metrics: Metrics) -> AsyncIterator[Retrieval]:
    """Open every source, and what processes documents."""

    def on_degraded(missing: Degraded, error: Exception) -> None:
        metrics.count_degraded(missing.source)
        detail = f"{type(error).__name__}: {error}"
        log.warning("source missing", source=missing.source, reason=missing.reason, detail=detail)

    slots, stack = dict[Source, int](), AsyncExitStack()
    async with stack:
        open_part = stack.enter_async_context  # optional: vector_store, ingestion_client
        client = build_source_client(settings)  # optional: vector_store, ingestion_client
        await open_part(client)  # optional: vector_store, ingestion_client
        pages = None  # optional: vector_store
        web = await open_part(open_web(settings, client))  # optional: ingestion_client
        pages = web.pages  # optional: vector_store and ingestion_client
        opening = open_documents(settings, client, pages, serving=True)  # optional: vector_store
        documents = await open_part(opening)  # optional: vector_store
        slots[documents.source] = settings.embedding_max_concurrency  # optional: vector_store
        slots |= web.slots  # optional: ingestion_client
        retriever = Retriever(
            slots,
            timeout=settings.retrieval_timeout,
            queue_timeout=settings.llm_queue_timeout,
            limit=settings.retrieval_passages,
            on_degraded=on_degraded,
        )
        yield Retrieval(
            retriever=retriever,
            documents=documents,  # optional: vector_store
        )
