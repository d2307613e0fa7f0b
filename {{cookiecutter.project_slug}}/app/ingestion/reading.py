"""From a document's bytes to its passages, off the event loop.

Extraction and splitting run in worker processes: a hostile file costs one process its deadline,
not the service its loop. Measured with 1,000 Markdown files of 10.7 MB in all, two at once, on
two cores that had other work as well, as the delay of a 5 ms timer in the same process (medians
of five runs of `python -m tests.ingestion.reading.measure_lag`):

                        p99        max     time
    worker processes     7 ms      8 ms   2.0 s
    two threads         16 ms     23 ms   2.4 s
    on the loop         47 ms     54 ms   2.3 s

A process starts in about 0.1 s, and takes a short document in less than 1 ms.

    async with WorkerPool(processes=2, timeout=60) as pool:
        reader = DocumentReader(pool)
        title, passages = await reader.passages_of(content, "text/markdown", "guide.md")

Needs: `worker`, `extract`, `split`, and with them `decoding`, `headings` and `pdf`, and the
packages semantic-text-splitter, html-to-markdown and pypdf.
"""

from functools import partial
from typing import Any

from .decoding import ExtractionError
from .extract import extract
from .split import MAX_TOKENS, OVERLAP, Estimate, estimate_text, split
from .worker import WorkerPool

__all__ = ["DocumentReader", "ExtractionError", "read"]


class DocumentReader:
    """Makes passages of documents; one object serves any number of callers.

    `estimate` counts the tokens of a text; it must be a function of an importable module.
    """

    def __init__(
        self,
        pool: WorkerPool,
        *,
        max_tokens: int = MAX_TOKENS,
        overlap: int = OVERLAP,
        estimate: Estimate = estimate_text,
    ) -> None:
        self._pool = pool
        self._splitting: dict[str, Any] = {
            "max_tokens": max_tokens, "overlap": overlap, "estimate": estimate,
        }  # fmt: skip

    async def passages_of(
        self,
        content: bytes,
        media_type: str | None = None,
        filename: str | None = None,
        *,
        title: str = "",
    ) -> tuple[str, list[str]]:
        """Return a document's title, its own unless one is given, and its passages.

        ExtractionError if it cannot be read, has too much text (MAX_TEXT in `decoding`), is not
        read in time, or needs too much memory;
        WorkerDiedError if its process ended, which may go better another time.
        """
        document = (content, media_type, filename, title)
        reading = f"Reading the document ({len(content)} bytes)"
        try:
            return await self._pool.run(partial(read, *document, **self._splitting))
        except TimeoutError as error:
            raise ExtractionError(f"{reading} took more than {self._pool.timeout:g} s") from error
        except MemoryError as error:
            raise ExtractionError(f"{reading} took too much memory") from error


def read(
    content: bytes,
    media_type: str | None,
    filename: str | None,
    title: str,
    max_tokens: int = MAX_TOKENS,
    overlap: int = OVERLAP,
    estimate: Estimate = estimate_text,
) -> tuple[str, list[str]]:
    """Do the whole work in the calling thread; see `DocumentReader.passages_of`."""
    own_title, text = extract(content, media_type=media_type, filename=filename)
    title = title or own_title
    return title, split(
        text, title=title, max_tokens=max_tokens, overlap=overlap, estimate=estimate
    )
