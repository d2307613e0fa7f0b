"""Qdrant under the stores' contract: the server at QDRANT_URL, or else the client's local engine.

The local engine is exact, keeps all in memory and answers without a pause; so between any two
requests the others get their turns, as with a server. A server gets collections of names of their
own for each test, which are removed afterwards.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from qdrant_client import AsyncQdrantClient

from app.stores.qdrant import QdrantStore
from app.stores.qdrant_requests import server_at
from tests.stores.contract import LONG, MODEL, OpenStore

FINDS_BY_WORDS = False
BAD_ADDRESS = "http://"
URL = os.environ.get("QDRANT_URL")
NOWHERE = "http://localhost:1"
MAX_PAUSE = 7
"""Fewer turns do others have before and after each request; how many is random, as seeded."""


class LocalClient(AsyncQdrantClient):
    """The local engine as another client sees it too: with pauses, and closed by none of them."""

    def __init__(self, engine: AsyncQdrantClient) -> None:
        super().__init__(location=":memory:")
        self._engine = engine
        self._random = Random(0)

    def __getattribute__(self, name: str) -> Any:
        """Give the engine's methods."""
        if name.startswith("_") or name == "close":
            return super().__getattribute__(name)
        return paused(name, getattr(self._engine, name), self._random)


def paused(
    name: str, ask: Callable[..., Awaitable[Any]], random: Random
) -> Callable[..., Awaitable[Any]]:
    """Make a request take its time."""

    async def request(*args: Any, **options: Any) -> Any:
        await pause(random.randrange(MAX_PAUSE))
        if name == "create_payload_index":  # which the engine has not, and warns of
            return None
        answer = await ask(*args, **options)
        await pause(random.randrange(MAX_PAUSE))
        return answer

    return request


async def pause(turns: int) -> None:
    """Let others have their turns."""
    for _ in range(turns):
        await asyncio.sleep(0)


def server(_folder: Path) -> AbstractContextManager[None]:
    """There is none to start."""
    return nullcontext()


@asynccontextmanager
async def database(_server: None, _folder: Path) -> AsyncIterator[OpenStore]:
    """Provide an engine, or a prefix, of the test's own."""
    async with local() if URL is None else remote(URL) as open_store:
        yield open_store


def address(_server: None, _folder: Path) -> str:
    """Skip the test: a service names its collections alike everywhere, and these may be in use."""
    pytest.skip("it would write into the collections of a service that uses this Qdrant")


@asynccontextmanager
async def local() -> AsyncIterator[OpenStore]:
    """Provide an engine in memory."""
    engine = AsyncQdrantClient(location=":memory:")

    def open_store(model: str = MODEL) -> QdrantStore:
        return QdrantStore(NOWHERE, model=model, client=lambda: LocalClient(engine))

    try:
        yield open_store
    finally:
        await engine.close()


@asynccontextmanager
async def remote(url: str) -> AsyncIterator[OpenStore]:
    """Provide a prefix on a server."""
    name = f"test-{uuid4().hex}"

    def open_store(model: str = MODEL) -> QdrantStore:
        return QdrantStore(url, model=model, name=name)

    try:
        yield open_store
    finally:
        await remove(url, name)


async def remove(url: str, name: str) -> None:
    """Remove the collections whose names begin so."""
    client = server_at(url).client(LONG)
    try:
        for collection in (await client.get_collections()).collections:
            if collection.name.startswith(name):
                await client.delete_collection(collection.name)
    finally:
        await client.close()
