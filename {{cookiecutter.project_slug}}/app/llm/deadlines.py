"""Deadlines for a provider's answer: first token, idle, total.

A provider that is silent must not hold a slot for ever. No timeout scope is open while the
consumer has the chunks. Connecting is the HTTP client's deadline.

Needs: `paced.py`, `interruptible.py` and `base.py` beside it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from .base import Chunk, ChunkStream, JSONObject, Provider, ProviderTimeoutError
from .paced import PacedStream


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds a provider may take.

    `first_token`: from the call to the first chunk that says something.
    `idle`: between two chunks after that. `total`: for the whole answer.
    """

    first_token: float
    idle: float
    total: float


class DeadlineProvider:
    """Wrap a provider so that it raises ProviderTimeoutError when it is too slow."""

    def __init__(self, provider: Provider, deadlines: Deadlines) -> None:
        self.name = provider.name
        self._provider = provider
        self._deadlines = deadlines

    @asynccontextmanager
    async def stream(self, request: JSONObject) -> AsyncIterator[ChunkStream]:
        """Open the answer and wait for its first token; see `Provider.stream`."""
        ends_at = asyncio.get_running_loop().time() + self._deadlines.total
        async with AsyncExitStack() as stack:
            stage = min("first_token", "total", key=self._seconds)
            try:
                async with asyncio.timeout(self._seconds(stage)):
                    chunks = await stack.enter_async_context(self._provider.stream(request))
                    opening = await _until_content(chunks)
            except TimeoutError as error:
                raise self._too_slow(stage) from error
            paced = PacedStream(
                opening, chunks, idle=self._deadlines.idle, ends_at=ends_at, too_slow=self._too_slow
            )
            yield stack.enter_context(paced)

    async def complete(self, request: JSONObject) -> JSONObject:
        """Answer within the total deadline; see `Provider.complete`."""
        try:
            async with asyncio.timeout(self._deadlines.total):
                return await self._provider.complete(request)
        except TimeoutError as error:
            raise self._too_slow("total") from error

    async def embed(self, request: JSONObject) -> JSONObject:
        """Embed within the total deadline; see `Provider.embed`."""
        try:
            async with asyncio.timeout(self._deadlines.total):
                return await self._provider.embed(request)
        except TimeoutError as error:
            raise self._too_slow("total") from error

    async def models(self) -> list[JSONObject]:
        """List the models within the first-token deadline; see `Provider.models`."""
        try:
            async with asyncio.timeout(self._deadlines.first_token):
                return await self._provider.models()
        except TimeoutError as error:
            raise self._too_slow("first_token") from error

    def _too_slow(self, stage: str) -> ProviderTimeoutError:
        return ProviderTimeoutError(
            f"{self.name} passed the {stage} deadline of {self._seconds(stage):g} s", stage=stage
        )

    def _seconds(self, stage: str) -> float:
        seconds: float = getattr(self._deadlines, stage)
        return seconds


async def _until_content(chunks: ChunkStream) -> list[Chunk]:
    """Read up to the first chunk that says something, or the end of an empty answer."""
    opening: list[Chunk] = []
    async for batch in chunks:
        opening += batch
        if any(chunk.has_content for chunk in batch):
            break
    return opening
