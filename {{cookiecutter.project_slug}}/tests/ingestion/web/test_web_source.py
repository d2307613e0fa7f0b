"""The web is asked for as much of a question as a search engine reads."""

from collections.abc import Sequence

import pytest

from app.ingestion.protocol import SearchResult
from app.sources.web import MOST_ASKED, WebSource

RESULT = SearchResult("Zebras", "https://example.org/", "A zebra has stripes.")


class Engine:
    """A search that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def search(self, query: str, *, limit: int) -> Sequence[SearchResult]:
        """Note the query."""
        self.asked.append(query)
        return [RESULT][:limit]


async def asked(question: str) -> list[str]:
    """Return what the engine was asked; what it found must have come back."""
    engine = Engine()
    found = await WebSource(engine).search(question, limit=3)
    assert [one.url for one in found] == [RESULT.url for _ in engine.asked]
    return engine.asked


async def test_a_question_is_searched_for() -> None:
    """A question is the query."""
    assert await asked("Has a zebra stripes?") == ["Has a zebra stripes?"]


async def test_a_long_question_is_cut() -> None:
    """Of a pasted log the beginning is the query, in whole words."""
    (query,) = await asked("What is wrong? " + "line of a log " * 1_000_000)
    assert MOST_ASKED - 10 <= len(query) <= MOST_ASKED
    assert query.startswith("What is wrong? line of a log ")
    assert query.endswith((" line", " of", " a", " log"))


@pytest.mark.parametrize("question", ["", " \n"])
async def test_nothing_is_asked_for_nothing(question: str) -> None:
    """A question without a word finds nothing, and costs no credit."""
    assert await asked(question) == []
