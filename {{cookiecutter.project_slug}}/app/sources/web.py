"""The web as a source of answers, through a search vendor."""

from collections.abc import Sequence

from app.ingestion.protocol import WebSearch
from app.retrieval.protocol import Found
from app.sources.question import beginning

MOST_ASKED = 400
"""Characters of a question that are searched for: vendors refuse more (Tavily), and search
engines read some dozen words."""


class WebSource:
    """What a web search says about the question."""

    name = "web"
    required = False
    timeout: float | None = None

    def __init__(self, web: WebSearch) -> None:
        self._web = web

    async def search(self, question: str, *, limit: int) -> Sequence[Found]:
        """Find pages, with the search engine's summary of each; see `Source.search`.

        Of a long question the first MOST_ASKED characters are asked.
        """
        question = beginning(question, MOST_ASKED)
        if not question:
            return ()
        results = await self._web.search(question, limit=limit)
        return [Found(result.title, result.text, self.name, result.url) for result in results]
