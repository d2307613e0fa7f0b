"""Search results out of a vendor's JSON.

Needs: `protocol.py` beside it.
"""

from collections.abc import Sequence

from .protocol import SearchResult


def results_of(items: Sequence[object], *, text_in: Sequence[str]) -> list[SearchResult]:
    """Return the results in a vendor's list, in its order; what is no page is left out.

    `text_in` are the names under which a text may be. Where there is none, the title says what
    there is.
    """
    return [result for item in items if (result := _result(item, text_in)) is not None]


def _result(item: object, text_in: Sequence[str]) -> SearchResult | None:
    if not isinstance(item, dict):
        return None
    title, url, *texts = (str(item.get(name) or "").strip() for name in ("title", "url", *text_in))
    text = next(filter(None, (*texts, title)), "")
    if not (text and url.startswith(("https://", "http://"))):
        return None
    return SearchResult(title or url, url, text)
