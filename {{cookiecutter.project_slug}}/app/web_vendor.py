"""The vendor that searches the web and reads its pages: SERPpost, under its request slots.

Another vendor is another class with the methods of `app.ingestion.protocol`, built here.
"""

from contextlib import AsyncExitStack
from functools import partial

import httpx
import structlog

from app.concurrency.limiter import ConcurrencyLimiter
from app.documents.work import Fetch, no_pages
from app.ingestion.cached import CachedPages, CachedSearch
from app.ingestion.decoding import ExtractionError
from app.ingestion.protocol import BadKeyError, OutOfCreditError, PageReader, WebError
from app.ingestion.serppost import SerppostClient
from app.ingestion.vendor_http import Limiter
from app.jobs.protocol import RetryLater
from app.retrieval.protocol import Source
from app.settings import Settings
from app.shared_slots import slots_on_redis  # optional: redis_rate_limiter
from app.sources.web import WebSource

MAX_WAITING = 200
"""Calls that may wait for a slot, ..."""
SLOT_WAIT = 15.0
"""... for so many seconds."""
FRESH = 300.0
"""Seconds for which a page is not fetched again."""

log = structlog.get_logger(__name__)


async def open_web(
    settings: Settings, client: httpx.AsyncClient, stack: AsyncExitStack
) -> tuple[Fetch, list[Source]]:
    """Open the vendor: what fetches pages, and the sources, none where there is no key."""
    key = settings.serppost_api_key.get_secret_value()
    if not key:
        log.info("SERPPOST_API_KEY is not set: the web is no source, and no page can be read")
        return no_pages, []
    slots = _slots(settings)
    slots = await slots_on_redis(slots, settings, stack, SLOT_WAIT)  # optional: redis_rate_limiter
    vendor = SerppostClient(client, api_key=key, base_url=settings.serppost_base_url, limiter=slots)
    pages = await stack.enter_async_context(CachedPages(vendor, ttl=FRESH))
    search = await stack.enter_async_context(CachedSearch(vendor))
    return partial(fetch, pages), [WebSource(search)]


def _slots(settings: Settings) -> Limiter:
    """Keep the calls of this process within its share of the account's."""
    share = max(1, settings.serppost_request_slots // settings.workers)
    return ConcurrencyLimiter(share, max_queue=MAX_WAITING, queue_timeout=SLOT_WAIT).slot


async def fetch(pages: PageReader, url: str) -> str:
    """Return a page as Markdown; see `Fetch`. What an operator must mend is raised as it is."""
    try:
        return await pages.markdown(url)
    except WebError as error:
        if isinstance(error, BadKeyError | OutOfCreditError):
            raise
        if error.heals:
            raise RetryLater(str(error), after=error.retry_after) from error
        raise ExtractionError(str(error)) from error
