"""Setting a database up as soon as it can be reached: when the store opens, or in a later call.

Needs `protocol` beside it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from .protocol import StoreUnavailableError

RETRY_AFTER = 1.0
"""Seconds."""


class Opening:
    """Runs `set_up` until it has succeeded once; one attempt at a time.

    `timeout`: seconds for an attempt. A call that waited for another's failed attempt fails as
    that did, so that however many come while the server is away, each waits for one attempt only.
    """

    def __init__(self, set_up: Callable[[], Awaitable[None]], *, timeout: float) -> None:
        self._set_up = set_up
        self._timeout = timeout
        self._done = False
        self._lock = asyncio.Lock()
        self._failures = 0
        self._failure: tuple[str, float | None] = ("", None)

    async def attempt(self) -> None:
        """Set up if the database can be reached; else leave it to later calls, and say so."""
        try:
            await self.done()
        except StoreUnavailableError as error:
            logging.getLogger(__name__).warning("store: to be set up later: %s", error)

    async def done(self) -> None:
        """Return when all is set up; else raise what came in the way."""
        if self._done:
            return
        failures = self._failures
        async with self._lock:
            if self._failures != failures:
                raise self._last()
            if not self._done:
                await self._try()

    async def _try(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._set_up()
        except StoreUnavailableError as error:
            self._fail(str(error), error.retry_after)
            raise
        except TimeoutError as error:
            raise self._fail(f"The store was not set up within {self._timeout:g} s") from error
        self._done = True

    def _fail(self, why: str, retry_after: float | None = RETRY_AFTER) -> StoreUnavailableError:
        self._failures += 1
        self._failure = (why, retry_after)
        return self._last()

    def _last(self) -> StoreUnavailableError:
        why, retry_after = self._failure
        return StoreUnavailableError(why, retry_after=retry_after)
