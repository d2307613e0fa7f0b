"""An attempt at a job ends: as done, as failed with the next one due, or as given up."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import app.jobs
from app.jobs.attempt import GIVE_UP_TIMEOUT, Backoff, Failure, attempt
from app.jobs.protocol import MAX_ATTEMPTS, RetryLater
from tests.copying import needs, use_copied

from .handlers import Does, FakeHandler, fails, takes

PACKAGE = Path(app.jobs.__file__).parent
EXACT = Backoff(first=5, longest=60, random=lambda: 1.0)
FOREVER = 1e9


async def try_once(handler: FakeHandler, number: int = 1, within: float = 10) -> Failure | None:
    """Attempt the job `d`."""
    return await attempt(handler, "d", number, within=within, backoff=EXACT)


async def test_a_job_is_done_once_its_handler_has_returned() -> None:
    """A handler that returns has done the job, and nothing is to follow."""
    handler = FakeHandler(takes(1))
    assert await try_once(handler) is None
    assert handler.done == ["d"]


async def test_whatever_is_raised_is_a_failed_attempt() -> None:
    """The failure tells the kind of the error, its words, and when the next attempt is due."""
    failure = await try_once(FakeHandler(fails(LookupError("no such page"))))
    assert failure == Failure("LookupError: no such page", 5)


async def test_an_attempt_is_bounded_in_time() -> None:
    """A handler that hangs is cancelled, and that is a failed attempt."""
    handler = FakeHandler(takes(FOREVER))
    failure = await try_once(handler, within=10)
    assert failure == Failure("TimeoutError: not done within 10 s", 5)
    assert asyncio.get_running_loop().time() == pytest.approx(10)
    assert handler.running == []


async def test_a_timeout_within_the_handler_keeps_its_own_words() -> None:
    """Only the attempt's own deadline is told as such."""
    failure = await try_once(FakeHandler(fails(TimeoutError("the provider is slow"))))
    assert failure is not None
    assert failure.error == "TimeoutError: the provider is slow"


async def test_a_cancellation_from_within_is_a_failed_attempt() -> None:
    """When something that the handler waited for was cancelled, the worker goes on."""
    failure = await try_once(FakeHandler(fails(asyncio.CancelledError())))
    assert failure == Failure("CancelledError: ", 5)


async def test_a_cancelled_worker_is_cancelled() -> None:
    """Cancelling the task that attempts is no failed attempt."""
    task = asyncio.create_task(try_once(FakeHandler(takes(FOREVER)), within=FOREVER))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_handler_says_when_to_try_again() -> None:
    """RetryLater's wait comes instead of the backoff, with a tenth of it as jitter at most."""
    failure = await try_once(FakeHandler(fails(RetryLater("busy", after=100))))
    assert failure is not None
    assert failure.retry_in == pytest.approx(110)


async def test_the_last_failure_gives_the_job_up() -> None:
    """The handler hears the error of the last attempt, and no other is due."""
    handler = FakeHandler(fails(ValueError("broken")))
    failure = await try_once(handler, number=MAX_ATTEMPTS)
    assert failure == Failure("ValueError: broken", None)
    assert handler.given_up == [("d", "ValueError: broken")]


async def test_earlier_failures_do_not_give_it_up() -> None:
    """Before its last attempt a job is not given up."""
    handler = FakeHandler(fails(ValueError("broken")))
    await try_once(handler, number=MAX_ATTEMPTS - 1)
    assert handler.given_up == []


@pytest.mark.parametrize("gives_up", [fails(OSError("no disk")), takes(GIVE_UP_TIMEOUT + 1)])
async def test_a_job_is_not_given_up_unheard(gives_up: Does) -> None:
    """When the handler cannot note that it is given up, the job is tried again."""
    handler = FakeHandler(fails(ValueError("broken")), gives_up=gives_up)
    failure = await try_once(handler, number=MAX_ATTEMPTS)
    assert failure is not None
    assert failure.retry_in == 60


@example(attempt=1025, chance=0.5)
@given(attempt=st.integers(1, 2000), chance=st.floats(0, 1, exclude_max=True))
def test_the_wait_doubles_up_to_the_longest(attempt: int, chance: float) -> None:
    """The wait lies between the half and the whole of first · 2ⁿ, and never above the longest."""
    full = min(60, 5 * 2 ** (attempt - 1))  # integers do not overflow
    wait = Backoff(first=5, longest=60, random=lambda: chance).after(attempt)
    assert full / 2 <= wait <= full


@given(asked=st.floats(0, 1e6), chance=st.floats(0, 1, exclude_max=True))
def test_nobody_comes_back_before_they_are_asked_to(asked: float, chance: float) -> None:
    """A wait that was asked for is waited for in full, but is no reason to come back sooner."""
    backoff = Backoff(random=lambda: chance)
    assert backoff.after(1, asked) >= max(asked, backoff.after(1))


COPIED = """
import asyncio
from theirs.attempt import Backoff, attempt

class Handler:
    async def process(self, document_id): raise ValueError(document_id)
    async def give_up(self, document_id, error): print(error)

failure = asyncio.run(attempt(Handler(), "d", 5, within=1, backoff=Backoff()))
print(failure.retry_in)
"""


def test_a_copied_module_works(tmp_path: Path) -> None:
    """An attempt needs the protocol beside it, and the standard library."""
    assert needs(PACKAGE, "attempt") == {"attempt", "protocol"}
    program = "import logging; logging.disable()\n" + COPIED
    assert use_copied(tmp_path, PACKAGE, "attempt", program) == "ValueError: d\nNone"
