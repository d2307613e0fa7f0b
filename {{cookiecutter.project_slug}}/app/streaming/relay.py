"""The last step of a stream: encoded events in, a response's body out.

It opens before the response starts, so that a failure up to the first event can
still have a status of its own, and it ends every stream with words: a failure
after that becomes an error event. It owns nothing: slot and provider stream belong to
the request's scope, so a consumer that walks away in mid-stream leaks nothing.
"""

from collections.abc import AsyncGenerator, Callable
from typing import Self

import structlog

from app.llm.stream import Interruptible
from app.streaming.describe import DOMAIN_ERRORS, log_fields

log = structlog.get_logger(__name__)


class Relay:
    """Iterate over the bytes of `events`; `encode_error` makes the event that ends a failed one."""

    def __init__(
        self, events: AsyncGenerator[bytes], *, encode_error: Callable[[Exception], bytes]
    ) -> None:
        self._events = events
        self._encode_error = encode_error
        self._opening: bytes | None = None
        self._ended = False
        self._waits = Interruptible()

    async def open(self) -> None:
        """Wait for the first event; what fails until then is raised."""
        self._opening = await self._waits.wait(self._events.__anext__)

    def interrupt(self, reason: Exception) -> None:
        """End the stream now with `reason` as its error event, also while it waits."""
        self._waits.interrupt(reason)

    async def aclose(self) -> None:
        """Close the events, wherever they are."""
        await self._events.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._opening is not None:
            opening, self._opening = self._opening, None
            return opening
        if self._ended:
            raise StopAsyncIteration
        try:
            return await self._waits.wait(self._events.__anext__)
        except StopAsyncIteration:
            raise
        except Exception as failure:  # noqa: BLE001 (no stream may end without a word)
            self._ended = True
            return self._last_event(failure)

    def _last_event(self, failure: Exception) -> bytes:
        if isinstance(failure, DOMAIN_ERRORS):
            log.info("stream ended early", **log_fields(failure))
        else:
            log.error("stream failed", exc_info=failure)
        return self._encode_error(failure)
