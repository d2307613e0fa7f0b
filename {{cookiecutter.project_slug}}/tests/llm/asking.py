"""Shorthands for asking a provider, and a provider that does as it is told."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

from app.llm.base import Chunk, ChunkStream, JSONObject, Provider, ProviderError

KEY = "sk-very-secret-of-the-service"
QUESTION: JSONObject = {"model": "gpt-fake", "messages": [{"role": "user", "content": "Hi?"}]}


async def ask(provider: Provider, request: JSONObject = QUESTION) -> list[Chunk]:
    """Stream a whole answer."""
    return (await ask_until_error(provider, request, expected=()))[0]


async def ask_until_error(
    provider: Provider,
    request: JSONObject = QUESTION,
    *,
    expected: type[ProviderError] | tuple[()] = ProviderError,
) -> tuple[list[Chunk], ProviderError | None]:
    """Stream an answer; return its chunks, and the error that ended it."""
    chunks: list[Chunk] = []
    try:
        async with provider.stream(request) as answer:
            async for batch in answer:
                chunks += batch
    except expected as error:
        return chunks, error
    return chunks, None


def text_of(chunks: Sequence[Chunk]) -> str:
    """Put the text of an answer together."""
    return "".join(chunk.text for chunk in chunks)


def says(text: str) -> Chunk:
    """Make a chunk that adds this text."""
    return Chunk({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})


ROLE = Chunk({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
FINISH = Chunk({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})

Step = float | Chunk | ProviderError


class ScriptedProvider:
    """Each call takes the next turn: seconds to wait, chunks to say, an error to raise.

    A turn that begins with an error fails on opening. `requests` keeps what was asked, `open`
    counts the streams that are not closed.
    """

    def __init__(self, *turns: Sequence[Step], name: str = "one") -> None:
        self.name = name
        self.requests: list[JSONObject] = []
        self.open = 0
        self._turns = deque(turns)

    @asynccontextmanager
    async def stream(self, request: JSONObject) -> AsyncIterator[ChunkStream]:
        """Play the next turn as a stream."""
        turn = self._next_turn(request)
        self.open += 1
        try:
            async with aclosing(_play(turn)) as chunks:
                yield chunks
        finally:
            self.open -= 1

    async def complete(self, request: JSONObject) -> JSONObject:
        """Play the next turn, then say who answered."""
        self.open += 1
        try:
            async for _ in _play(self._next_turn(request)):
                pass
        finally:
            self.open -= 1
        return {"answered_by": self.name}

    async def embed(self, request: JSONObject) -> JSONObject:
        """Answer as `complete` does."""
        return await self.complete(request)

    async def models(self) -> list[JSONObject]:
        """Answer as `complete` does."""
        return [await self.complete({})]

    def _next_turn(self, request: JSONObject) -> Sequence[Step]:
        self.requests.append(request)
        turn = self._turns.popleft()
        if turn and isinstance(turn[0], ProviderError):
            raise turn[0]
        return turn


async def _play(turn: Sequence[Step]) -> AsyncGenerator[list[Chunk]]:
    for step in turn:
        if isinstance(step, ProviderError):
            raise step
        if isinstance(step, Chunk):
            yield [step]
        else:
            await asyncio.sleep(step)
