"""A body is read up to its bound, and no more of it is decompressed than that."""

import gzip
import tracemalloc
from collections.abc import AsyncIterator

import httpx
import pytest

from app.ingestion.body import read_up_to

BOMB = gzip.compress(b"x" * 50_000_000)


def response(*pieces: bytes, encoding: str = "gzip") -> httpx.Response:
    """Make a response that comes in these pieces."""

    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return httpx.Response(200, headers={"content-encoding": encoding}, content=stream())


@pytest.mark.parametrize("limit", [1, 4, 5, 6, 100])
@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "identity", ""])
async def test_no_more_than_the_limit(limit: int, size: int, encoding: str) -> None:
    """It is the body's beginning, however it is compressed, and cut into pieces."""
    body = gzip.compress(b"Hello") if encoding.lower() == "gzip" else b"Hello"
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    assert await read_up_to(limit, response(*pieces, encoding=encoding)) == b"Hello"[:limit]


async def test_a_bomb_is_not_set_off() -> None:
    """50 MB in 49 KB take no more memory than the limit says."""
    whole = response(BOMB)
    tracemalloc.start()
    try:
        assert len(await read_up_to(100_000, whole)) == 100_000
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1_000_000


@pytest.mark.parametrize(
    ("pieces", "encoding"),
    [
        ([b"Hello"], "gzip"),
        ([gzip.compress(b"Hello"), b"more"], "gzip"),
        ([gzip.compress(b"Hello")], "br"),
    ],
    ids=["plain", "goes on", "not asked for"],
)
async def test_what_is_not_gzip(pieces: list[bytes], encoding: str) -> None:
    """What is not what it says, or goes on behind its end, is an error, and is not collected."""
    with pytest.raises(httpx.DecodingError):
        await read_up_to(100, response(*pieces, encoding=encoding))
