"""Whoever asks for what is being asked for already, waits for the same call."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from app.ingestion.protocol import BlockedPageError, VendorUnavailableError
from app.ingestion.single_flight import SingleFlight


class Call:
    """A call that goes on until the test says how it ends."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        """Make the call."""
        self.begun += 1
        try:
            return await asyncio.shield(self.outcome)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@pytest.fixture
async def flights() -> AsyncIterator[SingleFlight[str, str]]:
    """Open the flights."""
    async with SingleFlight[str, str]() as opened:
        yield opened


@pytest.fixture
async def call() -> Call:
    """Make a call."""
    return Call()


async def settle() -> None:
    """Let all that is ready run."""
    await asyncio.sleep(0.001)


def asking(flights: SingleFlight[str, str], call: Call, number: int) -> list[asyncio.Task[str]]:
    """Let so many ask for the same."""
    return [asyncio.create_task(flights.run("key", call)) for _ in range(number)]


async def test_equal_requests_make_one_call(flights: SingleFlight[str, str], call: Call) -> None:
    """All who ask under one key while a call is under way get its outcome."""
    tasks = asking(flights, call, 10)
    await settle()
    tasks += asking(flights, call, 10)
    await settle()
    call.outcome.set_result("page")
    assert await asyncio.gather(*tasks) == ["page"] * 20
    assert call.begun == 1


async def test_other_requests_are_not_held_up(flights: SingleFlight[str, str], call: Call) -> None:
    """Another key is another call."""
    asking(flights, call, 1)
    other = Call()
    other.outcome.set_result("other")
    assert await flights.run("other key", other) == "other"
    call.outcome.set_result("page")


async def test_who_comes_later_asks_anew(flights: SingleFlight[str, str], call: Call) -> None:
    """Nothing is kept, neither an answer nor an error."""
    call.outcome.set_result("page")
    await flights.run("key", call)
    await flights.run("key", call)
    assert call.begun == 2


async def test_an_error_goes_to_all(flights: SingleFlight[str, str], call: Call) -> None:
    """Each waiter gets an error of its own, with what it said and where it came from."""
    tasks = asking(flights, call, 3)
    await settle()
    call.outcome.set_exception(BlockedPageError("blocked", retry_after=7.0))
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert len({id(error) for error in errors}) == 3
    for error in errors:
        assert isinstance(error, BlockedPageError)
        assert (str(error), error.retry_after) == ("blocked", 7.0)
        assert "in __call__" in "".join(traceback.format_exception(error))


async def test_an_error_that_cannot_be_copied_goes_to_all(
    flights: SingleFlight[str, str], call: Call
) -> None:
    """Its class may want other arguments than it passes on; then it is shared."""

    class OddError(Exception):
        def __init__(self, one: str, two: str) -> None:
            super().__init__(one + two)

    tasks = asking(flights, call, 2)
    await settle()
    call.outcome.set_exception(OddError("one", "two"))
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(error) for error in errors] == ["onetwo", "onetwo"]


async def test_an_error_ends_no_other_call(flights: SingleFlight[str, str], call: Call) -> None:
    """The TaskGroup that the calls run in does not learn of their errors."""
    tasks = asking(flights, call, 1)
    failing = Call()
    failing.outcome.set_exception(ValueError("a defect"))
    with pytest.raises(ValueError, match="a defect"):
        await flights.run("other key", failing)
    call.outcome.set_result("page")
    assert await tasks[0] == "page"


@pytest.mark.parametrize("leaver", [0, 1, 2])
async def test_one_who_leaves_stops_nobody(
    flights: SingleFlight[str, str], call: Call, leaver: int
) -> None:
    """A waiter that is cancelled leaves at once, be it the one whose request began the call."""
    tasks = asking(flights, call, 3)
    await settle()
    tasks.pop(leaver).cancel()
    await settle()
    call.outcome.set_result("page")
    assert await asyncio.gather(*tasks) == ["page", "page"]
    assert (call.begun, call.cancelled) == (1, 0)


async def test_the_last_who_leaves_ends_the_call(
    flights: SingleFlight[str, str], call: Call
) -> None:
    """Nobody pays for what nobody waits for; and whoever asks next begins anew."""
    tasks = asking(flights, call, 2)
    await settle()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    again = asking(flights, call, 1)  # with the cancelled call on its way out
    await settle()
    call.outcome.set_result("page")
    assert await again[0] == "page"
    assert (call.begun, call.cancelled) == (2, 1)


async def test_a_call_that_ends_late_takes_nothing_with_it(
    flights: SingleFlight[str, str], call: Call
) -> None:
    """A call that is slow to end when cancelled does not end the place of the one after it."""
    slow_end = asyncio.Event()

    async def slow_to_end() -> str:
        try:
            return await asyncio.shield(call.outcome)
        finally:
            await slow_end.wait()

    first = asyncio.create_task(flights.run("key", slow_to_end))
    await settle()
    first.cancel()
    await settle()
    second = asking(flights, call, 1)
    await settle()
    slow_end.set()
    await settle()
    third = asking(flights, call, 1)
    await settle()
    call.outcome.set_result("page")
    assert await asyncio.gather(*second, *third) == ["page", "page"]
    assert call.begun == 1


async def test_closing_ends_all_calls() -> None:
    """No call outlives the object; whoever waits for one is told that it may ask again."""
    call = Call()
    async with SingleFlight[str, str]() as flights:
        tasks = asking(flights, call, 2)
        await settle()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in errors] == [VendorUnavailableError] * 2
    assert call.cancelled == 1


async def test_an_error_of_the_block_passes() -> None:
    """What ends the block that the object is open in is raised as it is, and not in a group."""
    call = Call()

    async def block() -> None:
        async with SingleFlight[str, str]() as flights:
            asking(flights, call, 1)
            await settle()
            raise ValueError("of the block")

    with pytest.raises(ValueError, match="of the block"):
        await block()
    assert call.cancelled == 1


async def test_a_cancellation_of_the_block_passes() -> None:
    """So is its cancellation."""
    call = Call()

    async def block() -> None:
        async with SingleFlight[str, str]() as flights:
            await flights.run("key", call)

    task = asyncio.create_task(block())
    await settle()
    task.cancel()
    await asyncio.wait([task])
    assert (task.cancelled(), call.cancelled) == (True, 1)


@pytest.mark.parametrize("ends", ["at once", "later"])
async def test_tasks_may_be_eager(ends: str) -> None:
    """It holds under a loop that runs a task until its first wait when it is made."""
    eager: Callable[..., Awaitable[object]] | None = getattr(asyncio, "eager_task_factory", None)
    if eager is None:
        pytest.skip("Python 3.12 brought eager tasks")
    asyncio.get_running_loop().set_task_factory(eager)  # type: ignore[arg-type]
    call = Call()
    if ends == "at once":
        call.outcome.set_result("page")
    async with SingleFlight[str, str]() as flights:
        tasks = asking(flights, call, 2)
        await settle()
        if ends == "later":
            call.outcome.set_result("page")
        assert await asyncio.gather(*tasks) == ["page", "page"]
