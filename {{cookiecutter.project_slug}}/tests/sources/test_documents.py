"""The store is asked for what is like the question, however long that is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from app.embeddings.protocol import Vectors
from app.sources.documents import MOST_ASKED, DocumentSource
from app.stores.protocol import Hit, Vector

HIT = Hit("id", 0, "A zebra has stripes.", "Zebras", "https://example.org/", 1.0)


class Store:
    """A store and its embedder, which note what they are asked."""

    model = "noting"

    def __init__(self) -> None:
        self.embedded: list[str] = []
        self.searched: list[str] = []

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Note the texts."""
        self.embedded += texts
        return np.ones((len(texts), 1), np.float32)

    async def search(self, text: str, vector: Vector, *, limit: int) -> Sequence[Hit]:
        """Note the question; its vector is that of `embed`."""
        assert vector.tolist() == [1.0]
        self.searched.append(text)
        return [HIT][:limit]


async def asked(question: str) -> list[str]:
    """Return what the store was asked for; the embedder must have got the same."""
    store = Store()
    searched: Any = store  # all that a source needs of one is its search
    found = await DocumentSource(searched, store).search(question, limit=3)
    assert [one.text for one in found] == [HIT.text for _ in store.searched]
    assert store.embedded == store.searched
    return store.searched


async def test_a_question_is_asked() -> None:
    """The words and their vector are looked for."""
    assert await asked("Has a zebra stripes?") == ["Has a zebra stripes?"]


async def test_a_long_question_is_cut() -> None:
    """Of a pasted log the beginning is embedded and looked for, in whole words."""
    (question,) = await asked("What is wrong? " + "line of a log " * 1_000_000)
    assert MOST_ASKED - 10 <= len(question) <= MOST_ASKED
    assert question.startswith("What is wrong? line of a log ")
    assert question.endswith((" line", " of", " a", " log"))


@pytest.mark.parametrize("question", ["", " \n"])
async def test_nothing_is_asked_for_nothing(question: str) -> None:
    """A question without a word finds nothing, and costs nothing."""
    assert await asked(question) == []
