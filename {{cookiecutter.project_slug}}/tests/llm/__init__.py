"""Shorthands for calling a provider, and a scripted provider."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import pytest

from app.llm.base import Chunk, ChunkStream, JSONObject, Provider, ProviderError

KEY = "sk-very-secret-of-the-service"
QUESTION: JSONObject = {"model": "gpt-fake", "messages": [{"role": "user", "content": "Hi?"}]}
EVENTS = 9  # of the default script: role, five tokens, finish, usage, end mark
both_ways = pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])


async def ask(provider: Provider, request: JSONObject = QUESTION) -> list[Chunk]:
    """Stream a whole answer."""
    async with provider.stream(request) as answer:
        return [chunk async for batch in answer for chunk in batch]


async def ask_until_error(
    provider: Provider, request: JSONObject = QUESTION
) -> tuple[list[Chunk], ProviderError | None]:
    """Stream an answer; return its chunks, and the error that ended it."""
    chunks: list[Chunk] = []
    try:
        async with provider.stream(request) as answer:
            async for batch in answer:
                chunks += batch
    except ProviderError as error:
        return chunks, error
    return chunks, None


async def error_of(
    provider: Provider, request: JSONObject = QUESTION, *, stream: bool
) -> ProviderError:
    """Make a call that fails, streamed or plain, and return its error."""
    try:
        await (ask(provider, request) if stream else provider.complete(request))
    except ProviderError as error:
        return error
    raise AssertionError("the call did not fail")


def text_of(chunks: Sequence[Chunk]) -> str:
    """Put the text of an answer together."""
    return "".join(chunk.text for chunk in chunks)


def text_chunk(text: str) -> Chunk:
    """Make a chunk that adds this text."""
    return Chunk.of({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})


ROLE = Chunk.of({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
FINISH = Chunk.of({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})

Step = float | Chunk | ProviderError


class ScriptedProvider:
    """Each call plays the next script: seconds to wait, chunks to send, an error to raise.

    A script that begins with an error fails on opening. `requests` keeps the requests, `open`
    counts the streams that are not closed.
    """

    def __init__(self, *scripts: Sequence[Step], name: str = "one") -> None:
        self.name = name
        self.requests: list[JSONObject] = []
        self.open = 0
        self._scripts = deque(scripts)

    @asynccontextmanager
    async def stream(self, request: JSONObject) -> AsyncIterator[ChunkStream]:
        """Play the next script as a stream."""
        script = self._next_script(request)
        self.open += 1
        try:
            async with aclosing(_play(script)) as chunks:
                yield chunks
        finally:
            self.open -= 1

    async def complete(self, request: JSONObject) -> JSONObject:
        """Play the next script, then name the provider that answered."""
        self.open += 1
        try:
            async for _ in _play(self._next_script(request)):
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

    def _next_script(self, request: JSONObject) -> Sequence[Step]:
        self.requests.append(request)
        script = self._scripts.popleft()
        if script and isinstance(script[0], ProviderError):
            raise script[0]
        return script


async def _play(script: Sequence[Step]) -> AsyncGenerator[list[Chunk]]:
    for step in script:
        if isinstance(step, ProviderError):
            raise step
        if isinstance(step, Chunk):
            yield [step]
        else:
            await asyncio.sleep(step)
