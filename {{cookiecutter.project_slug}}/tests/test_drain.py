"""Stopping: who is inside may finish, who is late is told, and then the server hears of it."""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from app.drain import SAME_STOP, Drain, DrainingError
from tests.service import eventually


@pytest.fixture
def passed_on() -> Iterator[list[int]]:
    """Be the server: note the signals that come through, until the test is over."""
    heard: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {n: signal.signal(n, lambda number, _: heard.append(number)) for n in numbers}
    yield heard
    for number, handler in before.items():
        signal.signal(number, handler)


async def some_turns_of_the_loop() -> None:
    """Let everything happen that is going to happen without more time."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_empty_service_stops_at_once(passed_on: list[int], number: int) -> None:
    """When nobody is inside, the server hears of the signal at once."""
    drain = Drain(timeout=600)
    async with drain.listening():
        await asyncio.sleep(0)
        signal.raise_signal(number)
        await eventually(lambda: passed_on)
    assert passed_on == [number]


async def test_nobody_gets_in_any_more(passed_on: list[int]) -> None:
    """From the signal on new work is refused, with the drain timeout as the time to come back."""
    drain = Drain(timeout=600)
    async with drain.listening():
        await asyncio.sleep(0)
        with drain.admit():
            assert not drain.started
            signal.raise_signal(signal.SIGTERM)
            await eventually(lambda: drain.started)
            with pytest.raises(DrainingError) as refused, drain.admit():
                pass
            assert refused.value.retry_after == 600
            assert passed_on == []
        await eventually(lambda: passed_on)
    assert passed_on == [signal.SIGTERM]


async def test_last_one_out_lets_the_server_stop(passed_on: list[int]) -> None:
    """Until everybody has left nobody is cut off, and the server does not hear of the signal."""
    drain = Drain(timeout=600)
    ended: list[DrainingError] = []
    async with drain.listening():
        await asyncio.sleep(0)
        with drain.admit(), drain.cutting_off(ended.append):
            with drain.admit():
                signal.raise_signal(signal.SIGTERM)
                await eventually(lambda: drain.started)
            await some_turns_of_the_loop()
            assert not passed_on
            assert not ended
        await eventually(lambda: passed_on)


async def test_who_does_not_finish_is_ended(passed_on: list[int]) -> None:
    """After the drain timeout who is still inside is ended, once, and who has left is not."""
    drain = Drain(timeout=0.05)
    ended: list[DrainingError] = []
    finished: list[DrainingError] = []
    async with drain.listening():
        await asyncio.sleep(0)
        with drain.cutting_off(finished.append):
            pass
        with drain.admit(), drain.cutting_off(ended.append):
            signal.raise_signal(signal.SIGTERM)
            await eventually(lambda: ended)
            assert passed_on == []
        await eventually(lambda: passed_on)
    assert len(ended) == 1
    assert finished == []


async def test_who_never_leaves_holds_nobody_up(passed_on: list[int]) -> None:
    """A request that does not even end when it is told to cannot keep the server from stopping."""
    drain = Drain(timeout=0)
    async with drain.listening():
        await asyncio.sleep(0)
        with drain.admit():
            signal.raise_signal(signal.SIGTERM)
            await eventually(lambda: passed_on)


async def bound_work(drain: Drain) -> None:
    """Work without an end, until the service is told to stop."""
    with drain.admit():
        async with drain.bound():
            signal.raise_signal(signal.SIGTERM)
            await asyncio.Event().wait()


async def test_bound_work_ends_with_draining_error(passed_on: list[int]) -> None:
    """What runs within `bound` when the time is up is cancelled, and says why."""
    drain = Drain(timeout=0)
    async with drain.listening():
        await asyncio.sleep(0)
        with pytest.raises(DrainingError):
            await bound_work(drain)
        await eventually(lambda: passed_on)


async def test_bound_leaves_other_timeouts_alone() -> None:
    """A timeout of the work itself is not mistaken for the drain's."""
    with pytest.raises(TimeoutError):
        async with Drain(timeout=600).bound(), asyncio.timeout(0):
            await asyncio.Event().wait()


async def test_bound_passes_cancellation_on() -> None:
    """Who is cancelled from outside within `bound` is cancelled, whatever the drain does."""
    drain = Drain(timeout=0)

    async def work() -> None:
        async with drain.bound():
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_same_stop_may_be_told_twice(passed_on: list[int]) -> None:
    """A second signal at the heels of the first, as from a parent process, changes nothing."""
    drain = Drain(timeout=600)
    async with drain.listening():
        await asyncio.sleep(0)
        with drain.admit():
            signal.raise_signal(signal.SIGINT)
            await eventually(lambda: drain.started)
            signal.raise_signal(signal.SIGTERM)
            await some_turns_of_the_loop()
            assert passed_on == []
        await eventually(lambda: passed_on)
    assert passed_on == [signal.SIGINT]


async def signal_again(signals: int) -> None:
    """Send more signals, each long enough after the last to be one of its own."""
    for _ in range(signals):
        await asyncio.sleep(1.1 * SAME_STOP)
        signal.raise_signal(signal.SIGTERM)


async def test_second_signal_ends_the_waiting(passed_on: list[int]) -> None:
    """Who is still inside at a second signal is ended as after the drain timeout."""
    drain = Drain(timeout=600)
    ended: list[DrainingError] = []
    async with drain.listening():
        await asyncio.sleep(0)
        with drain.admit(), drain.cutting_off(ended.append):
            signal.raise_signal(signal.SIGINT)
            await signal_again(1)
            await eventually(lambda: ended)
            assert passed_on == []
        await eventually(lambda: passed_on)
    assert passed_on == [signal.SIGINT]


async def test_gives_the_signals_back(passed_on: list[int]) -> None:
    """Whoever handled signals before does so again when the service has closed."""
    async with Drain(timeout=600).listening():
        await asyncio.sleep(0)
    signal.raise_signal(signal.SIGTERM)
    assert passed_on == [signal.SIGTERM]
