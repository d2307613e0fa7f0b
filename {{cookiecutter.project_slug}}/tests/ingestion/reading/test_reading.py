"""A document's passages, from a process that may be killed for them."""

import pytest

from app.ingestion.reading import DocumentReader, ExtractionError, read
from app.ingestion.split import Estimate
from app.ingestion.worker import WorkerDiedError, WorkerPool
from tests.ingestion.reading import calls
from tests.ingestion.reading.test_pdf import pdf

TEXT = b"# Guide\n\n" + b"Word after word, as in any text. " * 200


async def test_a_document_becomes_passages() -> None:
    """As if it were read here; the title is the document's own, unless there is another."""
    async with WorkerPool() as pool:
        reader = DocumentReader(pool, max_tokens=100, overlap=0)
        title, passages = await reader.passages_of(TEXT, "text/markdown", "guide.md")
        assert (title, passages) == read(TEXT, "text/markdown", "guide.md", "", 100, 0)
        assert title == "Guide"
        assert len(passages) > 10
        title, passages = await reader.passages_of(pdf("A text."), None, None, title="Mine")
        assert (title, passages) == ("Mine", ["Mine\n\nA text."])


async def test_tokens_are_counted_as_one_likes() -> None:
    """By any function of a module that the process can import."""
    async with WorkerPool() as pool:
        reader = DocumentReader(pool, max_tokens=50, overlap=10, estimate=calls.count_words)
        _, passages = await reader.passages_of(TEXT)
    assert 30 < max(map(calls.count_words, passages)) <= 50


async def test_what_cannot_be_read_says_why() -> None:
    """The error comes out of the process as it was raised in it."""
    async with WorkerPool() as pool:
        with pytest.raises(ExtractionError, match=r"binary.*are taken"):
            await DocumentReader(pool).passages_of(b"\0\1", None, "a.txt")


@pytest.mark.parametrize(
    ("estimate", "seconds", "words"),
    [
        (calls.hang, 0.5, r"\(5 bytes\) took more than 0.5 s"),
        (calls.exhaust, 30, r"\(5 bytes\) took too much memory"),
    ],
)
async def test_what_takes_too_much_is_not_tried_again(
    estimate: Estimate, seconds: float, words: str
) -> None:
    """A document that takes the process its deadline or memory will take the next one too."""
    async with WorkerPool(timeout=seconds) as pool:
        with pytest.raises(ExtractionError, match=words):
            await DocumentReader(pool, estimate=estimate).passages_of(b"Hello")


async def test_a_process_that_ended_is_no_fault_of_the_document() -> None:
    """It may go better another time."""
    async with WorkerPool() as pool:
        with pytest.raises(WorkerDiedError):
            await DocumentReader(pool, estimate=calls.vanish).passages_of(b"Hello")
