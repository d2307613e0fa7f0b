"""Search results are bounded, whatever a vendor sends."""

import pytest

from app.ingestion.protocol import SearchResult
from app.ingestion.results import MAX_RESULTS, MAX_TEXT, MAX_TITLE, MAX_URL, results_of

HUGE = "Some words of a page. " * 100_000
PAGE = "https://example.org/"


def result_of(**item: object) -> list[SearchResult]:
    """Read one result."""
    return results_of([item], text_in=("content", "snippet"))


@pytest.mark.parametrize(
    ("item", "result"),
    [
        ({"title": HUGE, "content": "text"}, SearchResult(HUGE[:MAX_TITLE], PAGE, "text")),
        ({"title": "title", "content": HUGE}, SearchResult("title", PAGE, HUGE[:MAX_TEXT])),
        ({"title": HUGE}, SearchResult(HUGE[:MAX_TITLE], PAGE, HUGE[:MAX_TEXT])),
    ],
)
def test_a_long_text_is_cut(item: dict[str, object], result: SearchResult) -> None:
    """A page in place of its summary costs no more than a long summary; so it is with a title."""
    assert result_of(url=PAGE, **item) == [result]


def test_a_url_is_whole_or_none() -> None:
    """A result whose URL is too long to be one is left out; as a title it is cut."""
    longest = PAGE.ljust(MAX_URL, "x")
    assert result_of(url=longest, content="a") == [SearchResult(longest[:MAX_TITLE], longest, "a")]
    assert result_of(url=f"{longest}x", content="a") == []


def test_a_list_is_no_text() -> None:
    """What is nested is not spelled out; the next name is tried."""
    assert result_of(url=PAGE, title="a", content=["b"] * 9, snippet="c") == [
        SearchResult("a", PAGE, "c")
    ]


def test_a_long_list_is_cut() -> None:
    """The first results are the best; of a list without an end only they are looked at."""
    items = [{"url": PAGE, "title": str(number)} for number in range(MAX_RESULTS + 1)]
    titles = [result.title for result in results_of(items, text_in=())]
    assert titles == [str(number) for number in range(MAX_RESULTS)]
