"""Clients of Qdrant's local engine to which something happens at a moment that a test chooses."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import ResponseHandlingException

from tests.stores.on_qdrant import LocalClient


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
