"""Qdrant under the stores' contract: the server at QDRANT_URL, or else the client's local engine.

Each test has a collection of its own, whose name is part of the address.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import UnexpectedResponse

from app.stores.qdrant import QdrantStore

URL = os.environ.get("QDRANT_URL")
ATOMIC = STEMS = False
SERVED = URL is not None
BAD_ADDRESS = "https://sesame@"


class LocalClient(AsyncQdrantClient):
    """The local engine, answering as a server does; none of its users closes it."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name in {"collection_exists", "create_collection"}:
            return super().__getattribute__(name)

        async def request(*args: Any, **options: Any) -> Any:
            if name in {"close", "create_payload_index"}:  # the engine has no indexes, and warns
                return None
            try:
                return await getattr(self._client, name)(*args, **options)
            except ValueError as error:
                if "not found" in str(error):
                    raise UnexpectedResponse(404, "", b"", httpx.Headers()) from error
                raise

        return request


def server(_folder: Path) -> nullcontext[AsyncQdrantClient]:
    """Provide a client."""
    local = LocalClient(location=":memory:")
    return nullcontext(AsyncQdrantClient(url=URL, check_compatibility=False) if URL else local)


@asynccontextmanager
async def database(server: AsyncQdrantClient, _folder: Path) -> AsyncIterator[str]:
    """Provide a collection that does not exist yet, and remove it afterwards."""
    name = f"test-{uuid4().hex}"
    yield f"{URL or 'http://localhost:1'}?collection={name}"
    await server.delete_collection(name)


def nowhere(_folder: Path) -> str:
    """Return the address of a port where nothing listens."""
    return "http://sesame@127.0.0.1:1"


def store(server: AsyncQdrantClient, address: str) -> QdrantStore:
    """Make a store."""
    local = isinstance(server, LocalClient)
    return QdrantStore(address, client=lambda **_: server) if local else QdrantStore(address)
