"""The documents of the store as a source of answers."""

from collections.abc import Sequence

from app.embeddings.protocol import Embedder
from app.retrieval.protocol import Found
from app.sources.question import beginning
from app.stores.protocol import VectorStore

MOST_ASKED = 4_000
"""Characters of a question that count, more than a passage has. Most scripts have less than two
tokens a character, so they are within the 8,192 that OpenAI's models take of a text."""


class DocumentSource:
    """The passages of the store."""

    name = "documents"
    required = False
    timeout: float | None = None

    def __init__(self, store: VectorStore, embedder: Embedder) -> None:
        self._store = store
        self._embedder = embedder

    async def search(self, question: str, *, limit: int) -> Sequence[Found]:
        """Find passages by meaning and, where the store can, by words; see `Source.search`.

        Of a long question the first MOST_ASKED characters are asked.
        """
        question = beginning(question, MOST_ASKED)
        if not question:
            return ()
        (vector,) = await self._embedder.embed([question])
        hits = await self._store.search(question, vector, limit=limit)
        return [Found(hit.title, hit.text, self.name, hit.url) for hit in hits]
