"""The window's script with a clock that a test sets: all of it but one line is the real one."""

from redis.asyncio import Redis

from app.ratelimit.redis_script import WINDOW_SCRIPT
from tests.ratelimit.contract import START

TIME = "redis.call('TIME')"
VIRTUAL_TIME = "{redis.call('GET', 'clock:seconds'), redis.call('GET', 'clock:microseconds')}"
SHIFTED_TIME = "redis.call('TIME'); time[2] = time[2] + (redis.call('GET', 'clock:shift') or 0)"
"""The server's own time and a shift in microseconds."""


def script_with(time: str) -> str:
    """Return the script, with another expression for what TIME replies."""
    assert WINDOW_SCRIPT.count(TIME) == 1
    return WINDOW_SCRIPT.replace(TIME, time)


class ServerClock:
    """The time that the server gives to `script_with(VIRTUAL_TIME)`."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self.microseconds = START

    def __call__(self) -> float:
        """Return it as this process's clock, in seconds."""
        return self.microseconds / 1_000_000

    async def advance(self, seconds: float) -> None:
        """Move it forward, or back."""
        self.microseconds += round(seconds * 1_000_000)
        whole, part = divmod(self.microseconds, 1_000_000)
        await self._client.mset({"clock:seconds": whole, "clock:microseconds": part})
