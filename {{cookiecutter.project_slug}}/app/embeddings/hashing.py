"""Vectors without a model: feature hashing of parts of words, in the process.

For starting with no account and no download, and for tests: it sees spelling, not meaning. The
runs of 2 to 4 characters within a word and its borders are hashed into 512 places with a sign
(Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009). As long as MODEL
has this name the vectors stay the same, up to rounding. Needs NumPy.
"""

import asyncio
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .base import Vectors

MODEL = "hashing-512-v1"
DIMENSIONS = 512
MAX_CHARACTERS = 8_000
"""Of one text; those after them do not count."""
SLICE = 8
"""Texts hashed at a time, in a few milliseconds."""
SHORTEST, LONGEST = 2, 4

_BETWEEN_WORDS = re.compile(
    r"[\s\x00-/:-@\[-`{-\xbf\u2000-\u206f\u3000-\u3004\u3008-\u3020\u3030\u30fb]+"
)
_BASE = 0x9E3779B97F4A7C15
"""The odd number nearest to 2**64 / golden ratio (Knuth, TAOCP 3, 6.4)."""


class HashingEmbedder:
    """An embedder whose concurrent calls alternate, so a question waits for no whole document."""

    model = MODEL

    def __init__(self) -> None:
        self._slot = asyncio.Semaphore(1)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder.embed`."""
        rows = list[Vectors]()
        for start in range(0, len(texts), SLICE):
            async with self._slot:
                part = map(embed_one, texts[start : start + SLICE])
                rows += await asyncio.to_thread(list, part)
        return np.stack(rows) if rows else np.empty((0, DIMENSIONS), np.float32)


def embed_one(text: str) -> Vectors:
    """Return the vector of a text; all texts without a word share one."""
    features, counts = np.unique(_features(text[:MAX_CHARACTERS]), return_counts=True)
    signs = np.where(features & 1, 1.0, -1.0)
    places = (features >> 1) % DIMENSIONS
    row = np.bincount(places.astype(np.intp), signs * (1 + np.log(counts)), minlength=DIMENSIONS)
    length = np.sqrt(np.sum(row * row))
    if not length:
        row[0] = length = 1.0
    return np.asarray(row / length, np.float32)


def _features(text: str) -> NDArray[np.uint64]:
    """Return a 64-bit hash for each run of characters."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = _BETWEEN_WORDS.sub(" ", f" {folded} ")
    codes = np.frombuffer(words.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    runs, hashes, within = [], codes, np.ones(len(codes), np.bool_)
    for size in range(SHORTEST, LONGEST + 1):
        hashes = hashes[:-1] * np.uint64(_BASE) + codes[size - 1 :]
        # Only the first and the last character of a run may be a space.
        within = within[:-1] & ((codes[size - 2 : -1] != ord(" ")) | (size == SHORTEST))
        runs.append(hashes[within] + np.uint64(size))
    # Let each bit depend on all: the finalizer of SplitMix64 (Steele et al., 2014).
    hashes = np.concatenate(runs)
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))
