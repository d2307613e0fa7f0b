"""The door refuses only what the server would refuse, and remembers only so much."""

import pytest

from app.ratelimit.protocol import RateLimited
from app.ratelimit.redis_door import MEMOS, Door
from tests.ratelimit.contract import tokens

FULL = (1000, 100, 100)
"""A bucket, and what is used and firm in it: at a window of 60 s it leaves at second 1061."""
NOW = 1_010_000_000


class Clock:
    """This process's clock, in seconds."""

    now = 5.0

    def __call__(self) -> float:
        """Return it."""
        return self.now


def refusal(door: Door, cost: int = 1) -> RateLimited | None:
    """Return what the door says to a call."""
    try:
        door.check([tokens(100)], [cost])
    except RateLimited as refusal:
        return refusal
    return None


def test_slow_answer_is_known_from_both_ends() -> None:
    """What took two seconds to learn is refused for two seconds less, and waited for in full."""
    clock = Clock()
    door = Door(clock)
    door.remember(tokens(100), FULL, now=NOW, asked=clock.now - 2)
    told = refusal(door)
    assert told is not None
    assert told.retry_after == 51
    clock.now += 48.9
    assert refusal(door) is not None
    for seconds in (0.1, 5):
        clock.now += seconds
        assert refusal(door) is None


@pytest.mark.parametrize(("cost", "refused"), [(30, False), (31, True)])
def test_only_what_is_firm_refuses(cost: int, refused: bool) -> None:
    """What is reserved may be given back, so it does not count at the door."""
    door = Door(Clock())
    door.remember(tokens(100), (1000, 100, 70), now=NOW, asked=5)
    assert (refusal(door, cost) is not None) == refused


def test_wait_is_for_all_that_is_used() -> None:
    """The firm part makes the refusal certain, but all that is used must go before a call fits."""
    door = Door(Clock())
    door.remember(tokens(100), (1000, 60, 50, 1010, 40, 5), now=NOW, asked=5)
    told = refusal(door, cost=70)
    assert told is not None
    assert (told.retry_after, told.remaining) == (61, 0)


def test_newest_answer_counts() -> None:
    """A later answer of the server replaces the one before."""
    door = Door(Clock())
    door.remember(tokens(100), FULL, now=NOW, asked=5)
    door.remember(tokens(100), (1000, 100, 0), now=NOW, asked=5)
    assert refusal(door) is None


def test_memory_is_bounded() -> None:
    """Of more budgets than it may remember, the door forgets the one it has known longest."""
    door = Door(Clock())
    door.remember(tokens(100), FULL, now=NOW, asked=5)
    for number in range(MEMOS):
        assert refusal(door) is not None
        door.remember(tokens(100, f"client:{number}"), FULL, now=NOW, asked=5)
    assert refusal(door) is None
