"""Retries and fallback, both only before the first token.

After the first token the client has part of an answer, and a second one would
not continue it. Until then a call that failed for a reason that can heal is tried
again, after a jittered wait that honours the provider's own advice, and then at the
next provider in the list. The choice is the request's: nothing is switched for others.

Needs: `protocol.py` beside it. Give it providers that wait for the first token
when a stream is opened, as those of `deadlines.py` do.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import random
from typing import TypeVar

from .protocol import (
    BrokenStreamError,
    ChunkStream,
    JSONObject,
    Provider,
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
    ProviderUnavailableError,
)

Answer = TypeVar("Answer")
Call = Callable[[Provider, JSONObject], Awaitable[Answer]]
CAN_HEAL = (
    BrokenStreamError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderUnavailableError,
)


@dataclass(frozen=True, slots=True)
class Retry:
    """How often one provider is tried and how long is waited in between, in seconds.

    The wait doubles from `first_wait` and is drawn between half and all of it, so that
    callers that failed together do not come back together. Advice of more than
    `longest_wait` is not waited out: the slot is worth more than that.
    """

    attempts: int = 2
    first_wait: float = 0.5
    longest_wait: float = 4.0
    random: Callable[[], float] = random

    def wait(self, attempt: int, error: ProviderError) -> float | None:
        """Seconds to wait after the failed `attempt` (from 1); None gives up here."""
        if attempt >= self.attempts or not isinstance(error, CAN_HEAL):
            return None
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= self.longest_wait else None
        longest = min(self.longest_wait, self.first_wait * 2.0 ** (attempt - 1))
        return longest * (1 + self.random()) / 2


class FailoverProvider:
    """Several providers as one: the first that answers does.

    `models` gives each provider's own model, by provider name, for requests that name none and
    for the fallback, to which another provider's model name means nothing. `sleep` waits
    between attempts.
    """

    def __init__(
        self,
        providers: Sequence[Provider],
        *,
        models: Mapping[str, str],
        retry: Retry | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name = ",".join(provider.name for provider in providers)
        self._providers = providers
        self._models = models
        self._retry = retry or Retry()
        self._sleep = sleep

    @asynccontextmanager
    async def stream(self, request: JSONObject) -> AsyncIterator[ChunkStream]:
        """Open the answer at the first provider that has one; see `Provider.stream`."""
        async with AsyncExitStack() as stack:
            yield await self._first(
                lambda provider, body: stack.enter_async_context(provider.stream(body)), request
            )

    async def complete(self, request: JSONObject) -> JSONObject:
        """Answer from the first provider that does; see `Provider.complete`."""
        return await self._first(lambda provider, body: provider.complete(body), request)

    async def embed(self, request: JSONObject) -> JSONObject:
        """Embed by the first provider alone: another's vectors live in another space."""
        return await self._tried(self._providers[0], lambda p, body: p.embed(body), request)

    async def models(self) -> list[JSONObject]:
        """List the models of the first provider, which is the one a request names."""
        return await self._tried(self._providers[0], lambda p, _: p.models(), {})

    async def _first(self, call: Call[Answer], request: JSONObject) -> Answer:
        """Fail as the first provider did: it is the one that was asked for."""
        failures: list[ProviderError] = []
        for provider in self._providers:
            body = self._body_for(provider, request)
            try:
                return await self._tried(provider, call, body)
            except ProviderError as error:
                failures.append(error)
                if isinstance(failures[0], ProviderRejectedError):
                    break
        raise failures[0]

    async def _tried(self, provider: Provider, call: Call[Answer], request: JSONObject) -> Answer:
        attempt = 1
        while True:
            try:
                return await call(provider, request)
            except ProviderError as error:
                wait = self._retry.wait(attempt, error)
                if wait is None:
                    raise
            attempt += 1
            await self._sleep(wait)

    def _body_for(self, provider: Provider, request: JSONObject) -> JSONObject:
        named = request.get("model") if provider is self._providers[0] else None
        return {**request, "model": named or self._models[provider.name]}
