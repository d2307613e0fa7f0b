"""Several providers as one: retries and fallback, both only before the first token.

After the first token the client has part of an answer, which a second one would not continue. Until
then a failure that may be temporary is retried after a jittered wait, or the wait that the provider
asks for; then the next provider of the list is tried, for this request only. But a provider whose
refusal has a Retry-After is skipped by all requests until then: one failed call is enough.

Needs: `base.py` and `stream.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from math import inf
from random import random
from typing import Protocol, TypeVar

from .base import (
    BrokenStreamError,
    ChunkStream,
    JSONObject,
    Provider,
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from .stream import Deadlines, timed

Answer = TypeVar("Answer")
Call = Callable[[Provider, JSONObject], Awaitable[Answer]]
REFUSALS = (ProviderOverloadedError, ProviderRateLimitedError)
WITHOUT_LIST = {404, 405, 501}
"""Statuses of a server that does not list its models."""
TEMPORARY = (*REFUSALS, BrokenStreamError, ProviderUnavailableError)


class Ceiling(Protocol):
    """A limit on calls that adapts to the provider; `started_at` is the call's start in loop time.

    A client that left, a bad request and a stream that broke off say nothing about load.
    """

    def on_success(self, started_at: float) -> None:
        """Note that the provider served a call."""
        ...

    def on_overload(self, started_at: float, retry_after: float | None) -> None:
        """Note a 429, 503, 529 or a late first token, and the provider's Retry-After in seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Retry:
    """How often one provider is tried, and the waits in seconds.

    The wait doubles from `first_wait` and is drawn between half and all of it, so that callers that
    failed together do not retry together. A provider that asks for more than `longest_wait` is not
    retried: the slot is worth more. One of several is skipped for `longest_skip` at most.
    """

    attempts: int = 2
    first_wait: float = 0.5
    longest_wait: float = 4.0
    longest_skip: float = 60.0
    random: Callable[[], float] = random

    def wait(self, attempt: int, error: ProviderError) -> float | None:
        """Seconds to wait after the failed `attempt` (from 1); None means no further attempt."""
        if attempt >= self.attempts or not isinstance(error, TEMPORARY):
            return None
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= self.longest_wait else None
        longest = min(self.longest_wait, self.first_wait * 2.0 ** (attempt - 1))
        return longest * (1 + self.random()) / 2


@dataclass(slots=True, eq=False)
class _Candidate:
    """A provider of the list, and until when in loop time it is skipped, after which refusal."""

    provider: Provider
    skipped_until: float = -inf
    refusal: type[ProviderError] = ProviderRateLimitedError

    def note(self, error: ProviderError, longest: float) -> None:
        """Skip it for as long as its refusal asks for."""
        if isinstance(error, REFUSALS) and error.has_retry_after and error.retry_after is not None:
            until = asyncio.get_running_loop().time() + min(error.retry_after, longest)
            self.skipped_until, self.refusal = max(self.skipped_until, until), type(error)

    def check(self) -> None:
        """Fail as the provider did, without a call, while it is skipped."""
        seconds = self.skipped_until - asyncio.get_running_loop().time()
        if seconds > 0:
            message = f"{self.provider.name} refused an earlier call and asked to wait"
            raise self.refusal(message, retry_after=seconds)


class Router:
    """Several providers as one: the first that answers does.

    `models` gives each provider's default model by provider name, used for requests that name none
    and at every fallback, to which another provider's model name means nothing. `deadlines` hold
    for each attempt. `ceiling` is notified of calls that were served and that were too many.
    """

    def __init__(
        self,
        providers: Sequence[Provider],
        *,
        models: Mapping[str, str],
        deadlines: Deadlines,
        retry: Retry | None = None,
        ceiling: Ceiling | None = None,
    ) -> None:
        self.name = ",".join(provider.name for provider in providers)
        self._candidates = [_Candidate(provider) for provider in providers]
        self._models = models
        self._deadlines = deadlines
        self._retry = retry or Retry()
        self._ceiling = ceiling

    @asynccontextmanager
    async def stream(self, request: JSONObject) -> AsyncIterator[ChunkStream]:
        """Open the answer at the first provider that has one; see `Provider.stream`."""
        async with AsyncExitStack() as stack:
            yield await self._first(
                lambda provider, body: stack.enter_async_context(
                    timed(provider, body, self._deadlines)
                ),
                request,
            )

    async def complete(self, request: JSONObject) -> JSONObject:
        """Answer from the first provider that does; see `Provider.complete`."""
        return await self._first(
            lambda provider, body: self._limit(provider, "total", provider.complete(body)), request
        )

    async def embed(self, request: JSONObject) -> JSONObject:
        """Embed by the first provider alone: another's vectors live in another space."""
        first = self._candidates[0]
        first.check()
        return await self._retried(
            first,
            lambda provider, body: self._limit(provider, "total", provider.embed(body)),
            request,
        )

    async def models(self) -> list[JSONObject]:
        """List the models of the first provider, or its configured one where it has no list."""
        provider = self._candidates[0].provider
        try:
            models = await self._limit(provider, "first_token", provider.models())
        except ProviderError as error:
            if error.status not in WITHOUT_LIST:
                raise
            models = []
        if models:
            return models
        model = self._models[provider.name]
        return [{"id": model, "object": "model", "created": 0, "owned_by": provider.name}]

    async def _limit(self, provider: Provider, stage: str, call: Awaitable[Answer]) -> Answer:
        return await self._deadlines.limit(provider.name, stage, call)

    async def _first(self, call: Call[Answer], request: JSONObject) -> Answer:
        """Try the providers in the list's order.

        If all fail, raise the failure of the first, which the request named; if all of them say
        when to come back, with the shortest wait.
        """
        failures: list[ProviderError] = []
        for candidate in self._candidates:
            named = None if failures else request.get("model")
            body = {**request, "model": named or self._models[candidate.provider.name]}
            try:
                candidate.check()
                return await self._retried(candidate, call, body)
            except ProviderError as error:
                failures.append(error)
                if isinstance(failures[0], ProviderRejectedError):
                    break
        waits = [error.retry_after for error in failures if error.retry_after is not None]
        if len(waits) == len(failures):
            failures[0].retry_after = min(waits)
        raise failures[0]

    async def _retried(
        self, candidate: _Candidate, call: Call[Answer], request: JSONObject
    ) -> Answer:
        """Call one provider until it answers or `Retry` gives up, and report each call's load."""
        attempt = 1
        while True:
            started_at = asyncio.get_running_loop().time()
            try:
                answer = await call(candidate.provider, request)
            except ProviderError as error:
                self._note_failure(candidate, error, started_at)
                wait = self._retry.wait(attempt, error)
                if wait is None:
                    raise
                await asyncio.sleep(wait)
                attempt += 1
            else:
                if self._ceiling:
                    self._ceiling.on_success(started_at)
                return answer

    def _note_failure(self, candidate: _Candidate, error: ProviderError, started_at: float) -> None:
        """Lower the ceiling by the last provider alone: others may answer what an earlier refuses.

        A single provider's Retry-After pauses the ceiling; one of several is skipped instead.
        """
        is_single = len(self._candidates) == 1
        if self._ceiling and candidate is self._candidates[-1] and _is_overload(error):
            pause = error.retry_after if is_single and error.has_retry_after else None
            self._ceiling.on_overload(started_at, pause)
        if not is_single:
            candidate.note(error, self._retry.longest_skip)


def _is_overload(error: ProviderError) -> bool:
    """Whether the provider had too much to do."""
    if isinstance(error, ProviderTimeoutError):
        return error.stage == "first_token"
    return isinstance(error, REFUSALS)
