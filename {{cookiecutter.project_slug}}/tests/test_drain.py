"""When the service stops: what tests/test_process.py does not see from outside."""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from app.drain import Drain, DrainingError
from tests.service import eventually


@pytest.fixture
def passed_on() -> Iterator[list[int]]:
    """Record the signals that the server gets."""
    received: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {n: signal.signal(n, lambda number, _: received.append(number)) for n in numbers}
    yield received
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_empty_service_stops_at_once(passed_on: list[int], number: int) -> None:
    """Without an open request the server gets the signal at once, also after earlier requests."""
    drain = Drain(timeout=600)
    async with drain.listening():
        await asyncio.sleep(0)
        with drain.admit():
            pass
        signal.raise_signal(number)
        await eventually(lambda: passed_on)
    assert passed_on == [number]


async def test_last_request_lets_the_server_stop(passed_on: list[int]) -> None:
    """While requests are open, none is cut off, new ones are refused, the server gets no signal."""
    drain = Drain(timeout=600)
    ended: list[DrainingError] = []
    async with drain.listening():
        await asyncio.sleep(0)
        with drain.admit(), drain.cutting_off(ended.append):
            with drain.admit():
                signal.raise_signal(signal.SIGINT)
                await eventually(lambda: drain.started)
            signal.raise_signal(signal.SIGTERM)  # the same stop, from a parent process
            for _ in range(20):
                await asyncio.sleep(0)
            with pytest.raises(DrainingError) as refused, drain.admit():
                pass
            assert refused.value.retry_after == 600
            assert (passed_on, ended) == ([], [])
        await eventually(lambda: passed_on)
    assert passed_on == [signal.SIGINT]


@pytest.mark.parametrize(("seconds", "signals"), [(0.05, 1), (600, 2)])
async def test_request_that_does_not_end(
    passed_on: list[int], monkeypatch: pytest.MonkeyPatch, seconds: float, signals: int
) -> None:
    """After the timeout or a second signal what is open is cut off, once, and then abandoned."""
    monkeypatch.setattr("app.drain.SAME_STOP", 0)
    monkeypatch.setattr("app.drain.LAST_WORDS", 0.05)
    drain = Drain(timeout=seconds)
    ended: list[DrainingError] = []
    finished: list[DrainingError] = []
    async with drain.listening():
        await asyncio.sleep(0)
        with drain.cutting_off(finished.append):
            pass
        with drain.admit(), drain.cutting_off(ended.append):
            for _ in range(signals):
                signal.raise_signal(signal.SIGTERM)
                await eventually(lambda: drain.started)
            await eventually(lambda: ended)
            assert passed_on == []
            await eventually(lambda: passed_on)
    assert (len(ended), finished) == (1, [])


async def test_bound_passes_other_ends_on() -> None:
    """A timeout of the work itself is not taken for the drain's, nor a cancellation."""
    drain = Drain(timeout=600)
    with pytest.raises(TimeoutError):
        async with drain.bound(), asyncio.timeout(0):
            await asyncio.Event().wait()

    async def work() -> None:
        async with drain.bound():
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_signal_handlers_are_restored(passed_on: list[int]) -> None:
    """After the service has closed, and off the main thread, other handlers get the signals."""

    async def serve() -> None:
        async with Drain(timeout=600).listening():
            await asyncio.sleep(0)

    await serve()
    await asyncio.to_thread(asyncio.run, serve())
    signal.raise_signal(signal.SIGTERM)
    assert passed_on == [signal.SIGTERM]
