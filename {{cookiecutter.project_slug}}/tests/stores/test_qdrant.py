"""What only Qdrant promises: about its addresses and a server's errors."""

import asyncio
from unittest import mock

import pytest
from qdrant_client import AsyncQdrantClient

from app.stores.base import StoreUnavailableError
from app.stores.qdrant import QdrantStore
from tests.stores.test_contract import NEAR


@pytest.mark.parametrize(
    ("address", "url", "key"),
    [
        ("http://host?collection=c", "http://host", None),
        ("https://k%40y@[::1]:1234/proxy", "https://[::1]:1234/proxy", {"api-key": "k@y"}),
    ],
)
async def test_address(address: str, url: str, key: dict[str, str] | None) -> None:
    """An address is that of the server, with the API key, which is sent as a header."""
    client = mock.Mock(return_value=AsyncQdrantClient(location=":memory:"))
    async with QdrantStore(address, client=client):
        assert (client.call_args.kwargs["url"], client.call_args.kwargs["headers"]) == (url, key)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"401 Unauthorized\r\n\r\nMust provide an API key", "401 .*Must provide an API key"),
        (b"429 Too Many\r\nretry-after: 3\r\n\r\n{}", "."),
        (b"200 OK\r\n\r\n<html>", "."),
        (b"200 OK\r\ncontent-length: 9\r\n\r\n{}", "."),
    ],
)
async def test_server_errors(answer: bytes, reason: str) -> None:
    """Whatever a server answers instead of a result is an error that tells the reason."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + answer.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with QdrantStore(f"http://sesame@127.0.0.1:{port}") as store:
            for call in (store.count(), store.search("?", NEAR, limit=1), store.delete("d")):
                with pytest.raises(StoreUnavailableError, match=f"^Qdrant, 127.*{reason}"):
                    await call
