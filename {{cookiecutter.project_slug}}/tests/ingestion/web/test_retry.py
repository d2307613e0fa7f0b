"""Calls are tried again seldom, spread out, in time, and not when everything fails."""

import asyncio
from collections.abc import Callable

import pytest

from app.ingestion.protocol import (
    BadKeyError,
    BlockedPageError,
    EmptyPageError,
    OutOfCreditError,
    VendorUnavailableError,
    WebBusyError,
    WebError,
)
from app.ingestion.retry import Retry, RetryBudget, retry_after_seconds

BROKEN = VendorUnavailableError("broken")


class Calls:
    """A call that fails with these errors, one after another, and then goes well."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.at: list[float] = []

    async def __call__(self) -> str:
        """Make an attempt."""
        self.at.append(asyncio.get_running_loop().time())
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    @property
    def waits(self) -> list[float]:
        """The seconds between attempts."""
        return [b - a for a, b in zip(self.at, self.at[1:], strict=False)]


def retry(
    *,
    attempts: int = 3,
    random: Callable[[], float] = lambda: 1.0,
    budget: RetryBudget | None = None,
) -> Retry:
    """Retry with waits that are drawn as the test says, the longest at first."""
    return Retry(budget or RetryBudget(), attempts=attempts, random=random)


async def test_a_call_that_heals_goes_well() -> None:
    """What failed twice and then goes well has gone well."""
    calls = Calls(BROKEN, BROKEN)
    assert await retry().run(calls, within=60) == "done"
    assert len(calls.at) == 3


async def test_attempts_are_bounded() -> None:
    """The last attempt's error is the call's."""
    last = VendorUnavailableError("the last")
    calls = Calls(BROKEN, BROKEN, last, BROKEN)
    with pytest.raises(VendorUnavailableError) as raised:
        await retry().run(calls, within=60)
    assert raised.value is last


@pytest.mark.parametrize(
    "error",
    [
        BadKeyError("no"),
        OutOfCreditError("no"),
        BlockedPageError("no"),
        EmptyPageError("no"),
        WebBusyError("no"),
        ValueError("a defect"),
    ],
)
async def test_what_does_not_heal_is_not_tried_again(error: Exception) -> None:
    """What asking again cannot mend is the caller's at once; no slot is such, for now."""
    calls = Calls(error)
    with pytest.raises(type(error)):
        await retry().run(calls, within=60)
    assert calls.at == [0.0]


async def test_waits_double_up_to_a_bound() -> None:
    """Each wait is drawn from twice the last one's range, which ends at 8 s."""
    calls = Calls(*[BROKEN] * 6)
    await retry(attempts=7).run(calls, within=600)
    assert calls.waits == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]


async def test_waits_are_drawn_from_nothing_up() -> None:
    """The whole range is drawn from, so that callers that failed together come back apart."""
    calls = Calls(BROKEN, BROKEN)
    draws = iter([0.0, 0.5])
    await retry(random=lambda: next(draws)).run(calls, within=60)
    assert calls.waits == [0.0, 0.5]


async def test_retry_after_comes_first() -> None:
    """What the vendor asked for is waited in full, and the draw comes on top."""
    calls = Calls(VendorUnavailableError("broken", retry_after=7.0))
    await retry().run(calls, within=60)
    assert calls.waits == [7.5]


async def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    """The error is raised at once, as there would be no time left to try again."""
    calls = Calls(VendorUnavailableError("broken", retry_after=60.0))
    with pytest.raises(VendorUnavailableError):
        await retry().run(calls, within=60)
    assert asyncio.get_running_loop().time() == 0.0


async def test_a_call_ends_in_time() -> None:
    """An attempt that is under way at the deadline is cancelled."""
    with pytest.raises(TimeoutError):
        await retry().run(lambda: asyncio.sleep(100), within=60)
    assert asyncio.get_running_loop().time() == 60.0


async def test_a_cancelled_call_is_not_tried_again() -> None:
    """A cancellation ends a wait as it ends an attempt."""
    calls = Calls(BROKEN)
    call = asyncio.create_task(retry().run(calls, within=60))
    await asyncio.sleep(0.1)
    call.cancel()
    await asyncio.wait([call])
    assert (call.cancelled(), len(calls.at)) == (True, 1)


async def test_a_storm_has_a_budget() -> None:
    """Where everything fails, 100 calls make 130 attempts and not 300: a fifth more, and ten."""
    shared, attempts = retry(random=lambda: 0.0), 0

    async def call() -> None:
        nonlocal attempts
        attempts += 1
        raise VendorUnavailableError("broken")

    for _ in range(100):
        with pytest.raises(WebError):
            await shared.run(call, within=60)
    assert 125 <= attempts <= 130


async def test_the_budget_fills_up_again() -> None:
    """Five calls that go well pay for one retry, and no more than ten are saved up."""
    budget = RetryBudget()
    for _ in range(1000):
        budget.deposit()
    assert [budget.withdraw() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(5):
        budget.deposit()
    assert [budget.withdraw(), budget.withdraw()] == [True, False]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 110.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("", None),
        (None, None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("Thu, 99 Jan 1970 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_read(value: str | None, seconds: float | None) -> None:
    """Seconds or a date, from now on and never before; what makes no sense says nothing."""
    assert retry_after_seconds(value, now=10.0) == seconds
