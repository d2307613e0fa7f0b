"""The sources of answers: documents and the web, asked side by side."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx
import structlog

from app.retrieval.base import Source
from app.retrieval.gather import Retriever
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.wiring.documents import Documents, open_documents  # optional: vector_store
from app.wiring.websearch import open_web  # optional: ingestion_client

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What answers are made from."""

    retriever: Retriever
    documents: Documents  # optional: vector_store


@asynccontextmanager
async def open_retrieval(
    settings: Settings, client: httpx.AsyncClient, metrics: Metrics
) -> AsyncIterator[Retrieval]:
    """Open every source, and what processes documents."""

    def degraded(source: str, error: Exception) -> None:
        metrics.count_degraded(source)
        log.warning("source missing", source=source, detail=f"{type(error).__name__}: {error}")

    sources = list[Source]()
    async with AsyncExitStack() as stack:
        open_part = stack.enter_async_context
        pages = None  # optional: vector_store
        web = await open_part(open_web(settings, client))  # optional: ingestion_client
        pages = web.pages  # optional: vector_store and ingestion_client
        opening = open_documents(settings, client, pages, serving=True)  # optional: vector_store
        documents = await open_part(opening)  # optional: vector_store
        sources.append(documents.source)  # optional: vector_store
        sources += web.sources  # optional: ingestion_client
        retriever = Retriever(
            sources,
            timeout=settings.retrieval_timeout,
            limit=settings.retrieval_passages,
            on_degraded=degraded,
        )
        yield Retrieval(
            retriever=await open_part(retriever),
            documents=documents,  # optional: vector_store
        )
