"""Clients of Qdrant's local engine to which something happens at a moment that a test chooses.

Beside them what such a client does meanwhile, and what is left in the engine then.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import ResponseHandlingException

from app.stores.protocol import Document
from app.stores.qdrant import NAME, QdrantStore
from tests.stores.contract import MODEL, passages
from tests.stores.on_qdrant import NOWHERE, LocalClient

Work = Callable[[QdrantStore], Awaitable[None]]


@dataclass
class Line:
    """A connection for so many requests; the next is lost, or its answer is, and all after it."""

    left: int
    done: bool
    """Whether the one that gets no answer is done nevertheless."""


class CutOff(LocalClient):
    """A client on such a line."""

    def __init__(self, engine: AsyncQdrantClient, line: Line) -> None:
        super().__init__(engine)
        self._line = line

    def __getattribute__(self, name: str) -> Any:
        """Give the engine's methods, until the connection is lost."""
        ask = super().__getattribute__(name)
        if name.startswith("_") or name == "close":
            return ask

        async def request(*args: Any, **options: Any) -> Any:
            line = self._line
            line.left -= 1
            if line.left >= 0:
                return await ask(*args, **options)
            if line.left == -1 and line.done:
                await ask(*args, **options)
            raise ResponseHandlingException(ConnectionError("lost"))

        return request


class Interrupted(LocalClient):
    """A client that, once it has the answer to such a request, waits for what is there to do."""

    def __init__(
        self,
        engine: AsyncQdrantClient,
        todo: list[Callable[[], Awaitable[None]]],
        at: str = "query_points",
    ) -> None:
        super().__init__(engine)
        self._todo = todo
        self._at = at

    def __getattribute__(self, name: str) -> Any:
        """Give the engine's methods."""
        ask = super().__getattribute__(name)
        if name.startswith("_") or name != self._at:
            return ask

        async def request(*args: Any, **options: Any) -> Any:
            answer = await ask(*args, **options)
            if self._todo:
                await self._todo.pop()()
            return answer

        return request


class Halted(LocalClient):
    """A client that stops after its first write of passages."""

    def __init__(
        self, engine: AsyncQdrantClient, begun: asyncio.Event, gate: asyncio.Event
    ) -> None:
        super().__init__(engine)
        self._begun = begun
        self._gate = gate

    def __getattribute__(self, name: str) -> Any:
        """Give the engine's methods."""
        ask = super().__getattribute__(name)
        if name != "upsert":
            return ask

        async def upsert(collection: str, *args: Any, **options: Any) -> Any:
            answer = await ask(collection, *args, **options)
            if "passages" in collection:
                self._begun.set()
                await self._gate.wait()
            return answer

        return upsert


def on(engine: AsyncQdrantClient, model: str = MODEL) -> QdrantStore:
    """Make a store on an engine."""
    return QdrantStore(NOWHERE, model=model, client=lambda: LocalClient(engine))


async def ids(engine: AsyncQdrantClient, collection: str = f"{NAME}-documents") -> list[Any]:
    """Return the ids of all points of a collection."""
    return [point.id for point in (await engine.scroll(collection, limit=10_000))[0]]


async def remains(engine: AsyncQdrantClient) -> dict[str, int]:
    """Count the points in each kind of collection; the label is no document."""
    points = {"documents": -1, "contents": 0, "passages": 0}
    for collection in (await engine.get_collections()).collections:
        kind = collection.name.removeprefix(f"{NAME}-").split("-")[0]
        points[kind] += len(await ids(engine, collection.name))
    return points


async def replace(store: QdrantStore) -> None:
    """Submit a new revision, and store it."""
    await store.submit(Document("d", "2", "d"), b"new")
    await store.begin("d")
    await store.upsert("d", "2", passages("new 1", "new 2", "new 3"))


async def delete(store: QdrantStore) -> None:
    """Delete the document."""
    await store.delete("d")


async def give_up(store: QdrantStore) -> None:
    """Give the document's first revision up."""
    await store.fail("d", "1", "error")
