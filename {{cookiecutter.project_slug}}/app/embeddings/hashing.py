"""Vectors without a model: feature hashing of parts of words, in the process.

For: starting with no account, no key and no download, and tests. It sees spelling, not meaning:
"limiter" is near "limiters" and far from "throttle". Replace it by a real model for quality.

Features are all runs of 2 to 4 characters within a word and its borders, so that inflections,
typing errors and languages without spaces (pairs of Chinese characters) still meet. Each is
hashed into one of 512 places with a sign (Weinberger et al., "Feature Hashing for Large Scale
Multitask Learning", 2009) and counts as 1 plus the logarithm of how often it occurs. Rows have
length 1.

Measured with 50 questions in a user's words over the 3,273 docstrings of Python 3.13's standard
library, and again with a letter missing in the longest word of each question
(`python -m tests.embeddings.measure_quality`):

                                       as asked          misspelt
                                   recall@5   MRR     recall@5   MRR
    this                             0.56     0.45      0.46     0.39
    BM25 of SQLite's FTS5            0.68     0.54      0.50     0.39
    BM25 with stems (porter)         0.70     0.55      0.50     0.40
    this fused with the latter       0.68     0.54      0.54     0.44

It knows no rare from common words, as BM25 does: alone it is worse than a search by words, and
beside one it helps where words are misspelt, and not where they are right. More places help
little: with 256, 512, 1,024 and 2,048 recall@5 is 0.50, 0.56, 0.59 and 0.59 (means of eight
values of _BASE).

Guarantees: the same vectors on every platform, up to rounding, for as long as MODEL has this
name. 1,600 characters take 0.2 ms, in a thread. Of a text the first MOST_COUNTED characters
count, several times what a passage has. Callers take turns, each for one slice of its texts, so a
question does not wait for a whole document. A cancel is at once; the slice that is under way, some
milliseconds of work, ends in its thread, unused.

Needs: `protocol`, NumPy.
"""

import asyncio
import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .protocol import Vectors

MODEL = "hashing-512-v1"
DIMENSIONS = 512
SLICE = 8_000
"""Characters hashed in one go: a few milliseconds, after which others have their turn."""
MOST_COUNTED = SLICE
"""Characters of one text: no slice has more than twice as many to hash."""

_BETWEEN_WORDS = re.compile(
    r"[\s\x00-/:-@\[-`{-\xbf\u2000-\u206f\u3000-\u3004\u3008-\u3020\u3030\u30fb]+"
)
_SPACE = 32
_LONGEST = 4
_BASE = 0x9E3779B97F4A7C15
"""The odd number nearest to 2**64 / golden ratio (Knuth, TAOCP 3, 6.4)."""


class HashingEmbedder:
    """An embedder that needs nothing; one object serves any number of callers."""

    model = MODEL

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a row for each text; see `Embedder.embed`.

        Callers take turns, first come, first served, each for one slice of its texts at a time.
        """
        rows = []
        for part in slices(texts):
            async with self._turn:
                rows.append(await asyncio.to_thread(embed_all, part))
        return np.concatenate(rows) if rows else np.empty((0, DIMENSIONS), np.float32)


def slices(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut a list of texts into lists of SLICE characters, and the rest of the last text."""
    start = size = 0
    for end, text in enumerate(texts, 1):
        size += len(text)
        if size >= SLICE or end == len(texts):
            yield texts[start:end]
            start, size = end, 0


def embed_all(texts: Sequence[str]) -> Vectors:
    """Return a row for each of some texts."""
    return np.stack([embed_one(text) for text in texts])


def embed_one(text: str) -> Vectors:
    """Return the vector of one text's beginning; all texts without a word share one."""
    features, counts = np.unique(_features(text[:MOST_COUNTED]), return_counts=True)
    signs = np.where(features & 1, 1.0, -1.0)
    places = (features >> 1) % DIMENSIONS
    row = np.bincount(places.astype(np.intp), signs * (1 + np.log(counts)), minlength=DIMENSIONS)
    length = np.sqrt(np.sum(row * row))
    if not length:
        row[0] = length = 1.0
    unit: Vectors = (row / length).astype(np.float32)
    return unit


def _features(text: str) -> NDArray[np.uint64]:
    """Return a 64-bit hash for each run of characters."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = _BETWEEN_WORDS.sub(" ", f" {folded} ")
    codes = np.frombuffer(words.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    return _mixed(np.concatenate(list(_runs(codes))))


def _runs(codes: NDArray[np.uint64]) -> Iterator[NDArray[np.uint64]]:
    """Hash the runs of 2 to 4 characters of which only the first and last may be a space."""
    hashes, within = codes, np.ones(len(codes), np.bool_)
    for size in range(2, _LONGEST + 1):
        hashes = hashes[:-1] * np.uint64(_BASE) + codes[size - 1 :]
        within = within[:-1]
        if size > 2:  # noqa: PLR2004 -- the shortest with something inside
            within = within & (codes[size - 2 : -1] != _SPACE)
        yield hashes[within] + np.uint64(size)


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Let each bit depend on all: the finalizer of SplitMix64 (Steele et al., 2014)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))
