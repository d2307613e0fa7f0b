"""A fleet shares its slots: never more than there are, in turns, given back whatever happens."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest
from redis.asyncio import Redis

import app.concurrency
from app.concurrency.fleet import FleetSemaphore
from app.concurrency.protocol import QueueTimeout
from tests.copying import use_copied

from .processes import PREFIX, leases, process, processes_waiting, slots_taken, take


async def test_never_more_than_the_limit(redis: Redis) -> None:
    """Three processes with ten callers each, some of them cancelled, hold three slots at most."""
    rng = Random(7)
    live: set[int] = set()
    highest = 0

    async def call(fleet: FleetSemaphore) -> None:
        nonlocal highest
        for _ in range(10):
            async with fleet.slot(timeout=20.0) as slot:
                live.add(slot.token)
                highest = max(highest, len(live))
                try:
                    await asyncio.sleep(rng.uniform(0.0, 0.003))
                finally:
                    live.remove(slot.token)

    async with AsyncExitStack() as stack:
        fleets = [await stack.enter_async_context(process(redis, limit=3)) for _ in range(3)]
        tasks = [asyncio.create_task(call(fleet)) for fleet in fleets for _ in range(10)]
        for task in tasks[::3]:
            await asyncio.sleep(rng.uniform(0.0, 0.01))
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
        await slots_taken(redis, 0)
    assert highest == 3


async def test_closing_ends_in_the_middle_of_a_message(redis: Redis, socket: Path) -> None:
    """A process that closes while it talks to the server does end, its client's timeouts or not."""
    async with asyncio.timeout(60), Redis(unix_socket_path=str(socket), socket_timeout=5) as client:
        for moment in range(30):
            async with FleetSemaphore(client, f"closing-{moment}", limit=1) as fleet:
                async with fleet.slot(timeout=20.0):
                    pass
                for _ in range(moment % 6):
                    await asyncio.sleep(0)


async def test_a_waiter_is_woken_when_a_slot_comes_free(redis: Redis) -> None:
    """Another process's slot is handed on long before the next poll."""
    async with process(redis) as here, process(redis) as there, AsyncExitStack() as stack:
        await take(stack, here)
        waiter = asyncio.create_task(take(stack, there))
        await processes_waiting(redis, 1)
        await stack.aclose()
        assert await waiter


async def test_slots_go_round_the_processes(redis: Redis) -> None:
    """A process with four waiters and one with one take turns; both keep their own order."""
    served: list[str] = []

    async def call(fleet: FleetSemaphore, name: str) -> None:
        async with fleet.slot(timeout=10.0):
            served.append(name)

    async with process(redis) as here, process(redis) as there, AsyncExitStack() as stack:
        await take(stack, here)
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(call(here, f"here {number}"))
            await processes_waiting(redis, 1)
            group.create_task(call(there, "there"))
            await processes_waiting(redis, 2)
            await stack.aclose()
    assert served == ["here 0", "there", "here 1", "here 2", "here 3"]


async def test_a_newcomer_does_not_overtake(redis: Redis) -> None:
    """Whoever gives a slot back and asks again at once comes after the process that waits."""
    async with process(redis) as here, process(redis) as there, AsyncExitStack() as stack:
        held = await stack.enter_async_context(AsyncExitStack())
        first = await take(held, here)
        patient = await stack.enter_async_context(AsyncExitStack())
        waiter = asyncio.create_task(take(patient, there))
        await processes_waiting(redis, 1)
        await held.aclose()
        with pytest.raises(QueueTimeout, match=r"1 slots came free within 0\.05 s"):
            await stack.enter_async_context(here.slot(timeout=0.05))
        assert await waiter > first


async def test_a_waiter_that_is_canceled_leaves_the_queue(redis: Redis) -> None:
    """Nobody waits behind it, though it would have been next."""
    async with process(redis) as here, process(redis) as there, AsyncExitStack() as stack:
        await take(stack, here)
        waiter = asyncio.create_task(take(stack, there))
        await processes_waiting(redis, 1)
        waiter.cancel()
        await processes_waiting(redis, 0)
        await stack.aclose()
        assert await take(stack, here)


async def test_a_slot_granted_to_a_canceled_waiter_goes_on(redis: Redis) -> None:
    """Cancelled when the slot is its own and before it knows, a waiter gives the slot back."""
    async with process(redis) as here, AsyncExitStack() as stack:
        waiter = asyncio.create_task(take(stack, here))
        while not here.in_flight:  # noqa: ASYNC110 -- to be there before the waiter is
            await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.wait([waiter])
        assert waiter.cancelled()
        assert here.in_flight == 0
        assert await take(stack, here)


async def test_a_block_that_fails_gives_its_slot_back(redis: Redis) -> None:
    """Its error comes out as it is, a TimeoutError of its own too."""
    async with process(redis) as here, process(redis) as there:
        for error in (OSError("reset"), TimeoutError("its own")):
            with pytest.raises(type(error), match=str(error)):
                async with here.slot(timeout=20.0):
                    raise error
        async with there.slot(timeout=20.0):
            assert (here.in_flight, there.in_flight) == (0, 1)


async def test_a_lease_is_renewed_as_long_as_the_block_runs(redis: Redis) -> None:
    """Held for twice its length, a lease keeps its token, and others out."""
    lease = 3.0  # renewed each second: a busy machine may stall for longer than that
    async with (
        process(redis, lease=lease) as here,
        process(redis, lease=lease) as there,
        here.slot(timeout=20.0) as slot,
    ):
        for _ in range(2):
            with pytest.raises(QueueTimeout):
                async with there.slot(timeout=lease):
                    pass
        assert list(await leases(redis)) == [slot.token]


async def test_tokens_grow_with_each_grant(redis: Redis) -> None:
    """Also from one process to another, and after the server has lost its data."""
    tokens = []
    async with process(redis) as here, process(redis) as there:
        for fleet in (here, there, here):
            async with fleet.slot(timeout=20.0) as slot:
                tokens.append(slot.token)
            await slots_taken(redis, 0)
            await redis.flushall()
    assert tokens == sorted(set(tokens))


async def test_a_process_that_closes_gives_all_back(redis: Redis) -> None:
    """Its slots do not wait for the end of their leases."""
    async with AsyncExitStack() as stack:
        async with process(redis, limit=2) as here:
            await take(stack, here)
            await take(stack, here)
            await slots_taken(redis, 2)
        assert await redis.zcard(PREFIX + "slots") == 0


async def test_an_error_in_the_fleets_block_comes_out_as_it_is(redis: Redis) -> None:
    """The tasks behind the semaphore do not turn it into a group of errors."""
    with pytest.raises(OSError, match="reset"):
        async with process(redis):
            raise OSError("reset")


async def test_every_key_has_the_hash_tag_and_goes_by_itself(redis: Redis) -> None:
    """All keys live in one slot of a cluster, and none outlives its use."""
    async with process(redis) as here, process(redis) as there, AsyncExitStack() as stack:
        await take(stack, here)
        waiter = asyncio.create_task(take(stack, there))
        await processes_waiting(redis, 1)
        keys = [key async for key in redis.scan_iter()]
        assert len(keys) == 6  # slots, turns, alive, token, and the last number of both
        assert all(key.startswith(PREFIX.encode()) for key in keys)
        assert all([await redis.pttl(key) > 0 for key in keys])
        waiter.cancel()


COPIED = """
import asyncio
from redis.asyncio import Redis
from theirs.fleet import FleetSemaphore

async def main():
    async with Redis(unix_socket_path="{socket}") as redis:
        async with FleetSemaphore(redis, "theirs", limit=1) as fleet:
            async with fleet.slot(timeout=20.0) as slot:
                print(slot.token > 0)

asyncio.run(main())
"""


def test_the_module_works_when_it_is_copied(socket: Path, tmp_path: Path) -> None:
    """In a project of another name, with the files that it says it needs, and redis-py."""
    package = Path(app.concurrency.__file__).parent
    program = COPIED.format(socket=socket)
    assert use_copied(tmp_path, package, "fleet", program, installed=True) == "True"
