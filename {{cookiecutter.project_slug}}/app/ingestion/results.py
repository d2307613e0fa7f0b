"""Search results out of a vendor's JSON.

Guarantees: whatever the vendor sends, there are no more results, and none is larger, than is said
here: they can be compared, kept and quoted without a look at their size.

Needs: `protocol.py` beside it.
"""

from collections.abc import Sequence

from .protocol import SearchResult

MAX_RESULTS = 100
"""Of a vendor's list; one page of a search engine has 10 or 20."""
MAX_TEXT = 4_000
"""Characters; what a text has beyond them is cut off. A summary has some hundreds."""
MAX_TITLE = 300
MAX_URL = 2_000
"""A result with a longer URL is left out: half of it would lead nowhere."""


def results_of(items: Sequence[object], *, text_in: Sequence[str]) -> list[SearchResult]:
    """Return the results in a vendor's list, in its order; what is no page is left out.

    `text_in` are the names under which a text may be. Where there is none, the title says what
    there is.
    """
    results = (_result(item, text_in) for item in items[:MAX_RESULTS])
    return [result for result in results if result is not None]


def _result(item: object, text_in: Sequence[str]) -> SearchResult | None:
    if not isinstance(item, dict):
        return None
    title, url, *texts = (_text(item.get(name)) for name in ("title", "url", *text_in))
    text = next(filter(None, (*texts, title)), "")
    if not (text and url.startswith(("https://", "http://")) and len(url) <= MAX_URL):
        return None
    return SearchResult((title or url)[:MAX_TITLE], url, text[:MAX_TEXT])


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""
