"""Hashed vectors are near where texts are spelled alike, and are computed in threads."""

import asyncio
import hashlib

import numpy as np
import pytest

from app.embeddings.hashing import MAX_CHARACTERS, MODEL, SLICE, HashingEmbedder, embed_one

LINES = "a line of a log " * MAX_CHARACTERS


def nearness(one: str, other: str) -> float:
    """Return the cosine similarity of two texts."""
    return float(embed_one(one) @ embed_one(other))


@pytest.mark.parametrize("text", ["", "why?", "限", "half of a pair: \ud800", LINES])
def test_every_text_has_a_vector_of_length_1(text: str) -> None:
    """Whatever the text, its row is finite, and of length 1."""
    row = embed_one(text)
    assert row.shape == (512,)
    assert np.linalg.norm(row) == pytest.approx(1.0, abs=1e-5)


def test_vectors_stay_as_they_are() -> None:
    """Stored vectors compare with new ones: a change of them changes MODEL, and this test."""
    rounded = (1000 * embed_one("Go on, 限 go")).round().astype("<i2")
    assert np.flatnonzero(rounded)[:3].tolist() == [1, 15, 98]
    digest = hashlib.sha256(rounded.tobytes()).hexdigest()[:8]
    assert (MODEL, digest) == ("hashing-512-v2", "c8d1b3f5")


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("limiter", "limiters", "throttle"),
        ("retrieval", "retreival", "database"),
        ("如何限制并发请求", "限制并发请求的数量", "今天天气很好"),
    ],
)
def test_what_is_spelled_alike_is_near(text: str, near: str, far: str) -> None:
    """Inflections, typing errors and shared characters bring texts together, in any script."""
    assert nearness(text, near) > 0.3
    assert nearness(text, far) < 0.25


async def test_a_question_does_not_wait_for_a_document() -> None:
    """Calls run side by side, each in the order of its texts."""
    embedder, texts = HashingEmbedder(), ["why?", "a zebra"] * SLICE
    assert np.array_equal(await embedder.embed(texts), [embed_one(text) for text in texts])
    document = asyncio.create_task(embedder.embed(texts * 20))
    await asyncio.sleep(0)
    assert (await embedder.embed(["why?"])).shape == (1, 512)
    assert not document.done()
    document.cancel()
    assert (await embedder.embed([])).shape == (0, 512)
