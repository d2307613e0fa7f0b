"""Vectors without a model: feature hashing of parts of words, in the process.

For starting with no account and no download, and for tests: it sees spelling, not meaning. The
runs of 2 to 4 characters within a word and its borders are hashed into 512 places with a sign
(Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009). As long as MODEL
has this name the vectors stay the same, up to rounding. Needs NumPy.
"""

import asyncio
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from math import log
from zlib import crc32

import numpy as np

from .base import Vectors

MODEL = "hashing-512-v2"
DIMENSIONS = 512
MAX_CHARACTERS = 8_000
"""Of one text; those after them do not count."""
SLICE = 8
"""Texts hashed at a time, in a few milliseconds."""

_BETWEEN_WORDS = re.compile(
    r"[\s\x00-/:-@\[-`{-\xbf\u2000-\u206f\u3000-\u3004\u3008-\u3020\u3030\u30fb]+"
)


class HashingEmbedder:
    """An embedder that hashes in threads, SLICE texts at a time: a cancelled call does no more."""

    model = MODEL

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder.embed`."""
        rows = list[Vectors]()
        for start in range(0, len(texts), SLICE):
            part = map(embed_one, texts[start : start + SLICE])
            rows += await asyncio.to_thread(list, part)
        return np.stack(rows) if rows else np.empty((0, DIMENSIONS), np.float32)


def embed_one(text: str) -> Vectors:
    """Return the vector of a text; all texts without a word share one."""
    folded = unicodedata.normalize("NFKC", text[:MAX_CHARACTERS]).casefold()
    words = (f" {word} " for word in _BETWEEN_WORDS.split(folded) if word)
    runs = Counter(
        word[start : start + size]
        for word in words
        for size in (2, 3, 4)
        for start in range(len(word) - size + 1)
    )
    row = np.zeros(DIMENSIONS)
    for run, count in runs.items():
        digest = crc32(run.encode("utf-8", "surrogatepass"))
        row[(digest >> 1) % DIMENSIONS] += (1 + log(count)) * (1 if digest & 1 else -1)
    if not row.any():
        row[0] = 1.0
    return np.asarray(row / np.linalg.norm(row), np.float32)
