"""An HTTP answer's body, read up to a bound, however it is compressed.

httpx decompresses each network read as a whole: 64 KB of gzip can be 64 MB of zeros, a thousand
times any bound, before the caller sees a byte. Here no more is decompressed than is asked for.

Needs: httpx. Send ACCEPTED as `accept-encoding` with the request.
"""

import zlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import cast

import httpx

ACCEPTED = "gzip"
GZIP = 16 + zlib.MAX_WBITS


async def read_up_to(limit: int, response: httpx.Response) -> bytes:
    """Return the body of a streamed response, or its first `limit` bytes, at least one.

    httpx.DecodingError if it is not what it says it is. What is left is not read: close it.
    """
    content = bytearray()
    decode = _decoder(response.headers.get("content-encoding", ""))
    # The stream itself, and closed here: httpx' iterators are left behind by whoever breaks off.
    received = cast(
        "AsyncGenerator[bytes]", cast("httpx.AsyncByteStream", response.stream).__aiter__()
    )
    async with aclosing(received):
        async for piece in received:
            content += decode(piece, limit - len(content))
            if len(content) >= limit:
                break
    return bytes(content)


def _decoder(encoding: str) -> Callable[[bytes, int], bytes]:
    """Return what decodes the next piece, but no more than so many bytes of it."""
    if encoding.strip().lower() in {"", "identity"}:
        return lambda piece, room: piece[:room]
    if encoding.strip().lower() != ACCEPTED:
        raise httpx.DecodingError(f"the answer is in an encoding not asked for: {encoding!r}")
    gzip = zlib.decompressobj(GZIP)

    def decompress(piece: bytes, room: int) -> bytes:
        if gzip.eof:  # zlib would keep what comes after it, however much
            raise httpx.DecodingError("the answer goes on after its end")
        try:
            return gzip.decompress(piece, room)
        except zlib.error as error:
            raise httpx.DecodingError(str(error)) from error

    return decompress
