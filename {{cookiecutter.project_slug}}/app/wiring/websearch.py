"""Builds the web search vendor, SERPpost, and its slots.

Another vendor is another class with the methods `search` and `page`.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import httpx
import structlog

from app.concurrency.limiter import ConcurrencyLimiter
from app.documents.pipeline import Pages  # optional: vector_store
from app.retrieval.base import Found, Source
from app.retrieval.prompt import beginning
from app.settings import Settings
from app.websearch.serppost import SerppostClient
from app.websearch.urls import check_url  # optional: vector_store
from app.wiring.redis import slots_on_redis  # optional: redis_rate_limiter

MAX_WAITING = 1000
SLOT_TIMEOUT = {"search": 15.0, "page": 600.0}
"""Seconds for which a call may wait for a slot."""
MAX_QUESTION = 400
"""Characters of a question that are searched for: search engines read some dozen words."""

log = structlog.get_logger(__name__)


class WebSource:
    """The web as a source of answers."""

    name = "web"

    def __init__(self, vendor: SerppostClient) -> None:
        self._vendor = vendor

    async def search(self, question: str, *, limit: int) -> Sequence[Found]:
        """Return the search engine's summaries; searches for the first MAX_QUESTION characters."""
        question = beginning(question, MAX_QUESTION)
        results = await self._vendor.search(question, limit=limit) if question else ()
        return [Found(result.title, result.text, self.name, result.url) for result in results]


@dataclass(frozen=True, slots=True)
class Web:
    """The web as a source of answers, with its slots, and of documents."""

    slots: dict[Source, int] = field(default_factory=dict)
    pages: Pages | None = None  # optional: vector_store


@asynccontextmanager
async def open_web(settings: Settings, client: httpx.AsyncClient) -> AsyncIterator[Web]:
    """Open the vendor's client; without SERPPOST_API_KEY there is no web."""
    key = settings.serppost_api_key.get_secret_value()
    if not key:
        log.info("SERPPOST_API_KEY is not set: no web search, no documents from URLs")
        yield Web()
        return
    limit = settings.serppost_request_slots
    slots = ConcurrencyLimiter(
        limit // settings.workers, max_queue=MAX_WAITING, queue_timeout=SLOT_TIMEOUT["page"]
    )

    async with AsyncExitStack() as stack:
        share = slots_on_redis(slots, "web", limit, settings, stack)  # optional: redis_rate_limiter
        slots = await share  # optional: redis_rate_limiter

        def slot(kind: str) -> AbstractAsyncContextManager[object]:
            # Each kind is a key of its own, so that fetching many pages never starves a search.
            return slots.slot(kind, within=SLOT_TIMEOUT[kind])

        url = settings.serppost_base_url
        vendor = SerppostClient(client, api_key=key, base_url=url, slot=slot)
        await stack.enter_async_context(vendor)
        yield Web(
            slots={WebSource(vendor): slots.limit},
            pages=Pages(vendor.page, slots.limit, check_url),  # optional: vector_store
        )
