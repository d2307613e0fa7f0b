"""Retries and fallback, both only before the first token.

After the first token the client has part of an answer, and a second one would
not continue it. Until then a call that failed for a reason that can heal is tried
again, after a jittered wait that honours the provider's own advice, and then at the
next provider in the list. The choice is the request's: nothing is switched for others.
But one of several that refused for its load and said for how long is left alone until then:
requests take that refusal as given, at once, and go on to the next in order. They come back to
it where nobody else answers and what is left is short.

Needs: `base.py` beside it. Give it providers that wait for the first token
when a stream is opened, as those of `deadlines.py` do.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from math import inf
from random import random
from typing import TypeVar

from .base import (
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
    `longest_wait` is not waited out: the slot is worth more than that. One of several
    providers is left alone for as long as it advises, but `longest_rest` at most.
    """

    attempts: int = 2
    first_wait: float = 0.5
    longest_wait: float = 4.0
    longest_rest: float = 60.0
    random: Callable[[], float] = random

    def wait(self, attempt: int, error: ProviderError) -> float | None:
        """Seconds to wait after the failed `attempt` (from 1); None gives up here."""
        if attempt >= self.attempts or not isinstance(error, CAN_HEAL):
            return None
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= self.longest_wait else None
        longest = min(self.longest_wait, self.first_wait * 2.0 ** (attempt - 1))
        return longest * (1 + self.random()) / 2


@dataclass(slots=True, eq=False)
class Candidate:
    """A provider of the list, and until when in loop time it wants to be left alone."""

    provider: Provider
    rests_until: float = -inf
    refusal: type[ProviderError] = ProviderRateLimitedError

    def rest(self) -> float:
        """Seconds until it may be asked again; 0 where that is now."""
        return max(0.0, self.rests_until - asyncio.get_running_loop().time())

    def note(self, error: ProviderError, longest_rest: float) -> None:
        """Leave it alone for as long as it says with a refusal for its load."""
        refused = isinstance(error, ProviderOverloadedError | ProviderRateLimitedError)
        if refused and error.retry_after is not None:
            until = asyncio.get_running_loop().time() + min(error.retry_after, longest_rest)
            self.rests_until, self.refusal = max(self.rests_until, until), type(error)

    def check(self) -> None:
        """Fail as the provider would, without asking it, while it is left alone."""
        if rest := self.rest():
            message = f"{self.provider.name} refused a call and said when to come back"
            raise self.refusal(message, retry_after=rest)


class Router:
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
        self._candidates = [Candidate(provider) for provider in providers]
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
        return await self._tried(self._candidates[0], lambda p, body: p.embed(body), request)

    async def models(self) -> list[JSONObject]:
        """List the models of the first provider, which is the one a request names."""
        first = Candidate(self._candidates[0].provider)  # the list is no load: asked at any time
        return await self._tried(first, lambda p, _: p.models(), {})

    async def _first(self, call: Call[Answer], request: JSONObject) -> Answer:
        """Ask in the list's order, and then those that are left alone, the soonest back first.

        Fail as the first provider did, which is the one that was asked for; and where each
        said when to come back, with the shortest wait.
        """
        first, failures = self._candidates[0], dict[Candidate, ProviderError]()
        for candidate in sorted(self._candidates, key=Candidate.rest):
            body = self._body_for(candidate, request)
            try:
                return await self._tried(candidate, call, body)
            except ProviderError as error:
                failures[candidate] = error
                if candidate is first and isinstance(error, ProviderRejectedError):
                    break
        waits = [wait for error in failures.values() if (wait := error.retry_after) is not None]
        if len(waits) == len(failures):
            failures[first].retry_after = min(waits)
        raise failures[first]

    async def _tried(self, candidate: Candidate, call: Call[Answer], request: JSONObject) -> Answer:
        """Wait out a short rest as any advice: it has come to that, nobody else is left."""
        attempt = 1
        while True:
            try:
                if attempt == 1:  # later it was waited for, and a timer may be a hair early
                    candidate.check()
                return await call(candidate.provider, request)
            except ProviderError as error:
                if len(self._candidates) > 1:
                    candidate.note(error, self._retry.longest_rest)
                wait = self._retry.wait(attempt, error)
                if wait is None:
                    raise
            attempt += 1
            await self._sleep(wait)

    def _body_for(self, candidate: Candidate, request: JSONObject) -> JSONObject:
        named = request.get("model") if candidate is self._candidates[0] else None
        return {**request, "model": named or self._models[candidate.provider.name]}
