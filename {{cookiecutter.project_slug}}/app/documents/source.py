"""The documents as a source of answers."""

from collections.abc import Sequence

from app.embeddings.base import Embedder
from app.retrieval.base import Found
from app.retrieval.prompt import beginning
from app.stores.base import PassageStore

MAX_QUESTION = 4_000
"""Characters of a question that are searched for, more than a passage has; in most scripts fewer
than the 8,192 tokens that OpenAI's embedding models accept."""


class DocumentSource:
    """The passages of a store, found by the vectors of an embedder and by words."""

    name = "documents"

    def __init__(self, store: PassageStore, embedder: Embedder) -> None:
        self._store = store
        self._embedder = embedder

    async def search(self, question: str, *, limit: int) -> Sequence[Found]:
        """Return passages, best first; only the first MAX_QUESTION characters are searched for."""
        question = beginning(question, MAX_QUESTION)
        if not question:
            return ()
        (vector,) = await self._embedder.embed([question])
        hits = await self._store.search(question, vector, limit=limit)
        return [Found(hit.title, hit.text, self.name, hit.url) for hit in hits]
