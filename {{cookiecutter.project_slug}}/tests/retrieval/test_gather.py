"""Sources are searched at once, and the answer goes on without those that fail or are late.

Everything runs on a virtual clock, so that times are exact.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest

from app.retrieval.base import Degraded, Found, Retrieved
from app.retrieval.gather import GRACE, Retriever

FOREVER = 1e9
SECRET = "password=hunter2"


@dataclass
class FakeSource:
    """Works, then finds its own name, `found` times; counts its searches that run."""

    name: str
    work: Callable[[], Awaitable[object]]
    found: int = 1
    running: int = 0

    async def search(self, question: str, *, limit: int) -> Sequence[Found]:
        """Work, then find."""
        assert (question, limit) == ("why?", 5)
        self.running += 1
        try:
            await self.work()
        finally:
            self.running -= 1
        return [Found("", f"{self.name} {n}", self.name) for n in range(self.found)]


def works(
    seconds: float, *, error: BaseException | None = None, cleans_up: float = 0
) -> Callable[[], Awaitable[None]]:
    """Work for so long, then raise the error if there is one; clean up when cancelled."""

    async def work() -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(cleans_up)
            raise
        if error is not None:
            raise error

    return work


def now() -> float:
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


async def test_sources_are_searched_side_by_side() -> None:
    """Three sources of 300 ms take 300 ms; no source gives more than the limit."""
    sources = [FakeSource(name, works(0.3), found=9) for name in "abc"]
    async with Retriever(sources, timeout=10, limit=5) as retriever:
        retrieved = await retriever.retrieve("why?")
    assert now() == pytest.approx(0.3)
    assert [one.text for one in retrieved.found[:4]] == ["a 0", "b 0", "c 0", "a 1"]
    assert (len(retrieved.found), retrieved.degraded) == (15, ())


async def cancels_itself() -> None:
    """Raise CancelledError, as awaiting a task that somebody else cancelled does."""
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("work", "reason", "kind", "ends"),
    [
        (works(0, error=OSError(SECRET)), "failed", OSError, 1),
        (works(2, error=TimeoutError(SECRET)), "timed out", TimeoutError, 2),
        (works(0, error=ExceptionGroup(SECRET, [OSError()])), "failed", ExceptionGroup, 1),
        (cancels_itself, "failed", RuntimeError, 1),
        (works(FOREVER), "timed out", TimeoutError, 10),
        (works(FOREVER, cleans_up=0.25), "timed out", TimeoutError, 10.25),
    ],
    ids=["error", "timeout of its own", "group", "cancelled", "late", "late and cleans up"],
)
async def test_a_source_that_fails_is_degraded(
    work: Callable[[], Awaitable[object]], reason: str, kind: type[Exception], ends: float
) -> None:
    """The others' passages are used; the public learns a word, the operator the exception."""
    errors: dict[str, Exception] = {}
    bad, good = FakeSource("bad", work), FakeSource("good", works(1))
    gather = Retriever([bad, good], timeout=10, limit=5, on_degraded=errors.__setitem__)
    async with gather as retriever:
        retrieved = await retriever.retrieve("why?")
    assert retrieved == Retrieved((Found("", "good 0", "good"),), (Degraded("bad", reason),))
    assert {name: type(error) for name, error in errors.items()} == {"bad": kind}
    assert (now(), bad.running) == (ends, 0)


async def test_a_search_that_ignores_its_cancellation_holds_no_request() -> None:
    """The request goes on after the grace; closing waits for the search."""
    end = asyncio.Event()

    async def ignores() -> None:
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    sources = [FakeSource("stubborn", ignores), FakeSource("b", works(1))]
    async with Retriever(sources, timeout=2, limit=5) as retriever:
        retrieved = await retriever.retrieve("why?")
        assert [one.source for one in retrieved.found] == ["b"]
        assert retrieved.degraded == (Degraded("stubborn", "timed out"),)
        assert now() == 2 + GRACE
        asyncio.get_running_loop().call_later(5, end.set)
    assert (now(), sources[0].running) == (7 + GRACE, 0)


async def test_cancellation_ends_all_searches() -> None:
    """A retrieval that is cancelled cancels every search, and waits while they clean up."""
    sources = [FakeSource("a", works(FOREVER)), FakeSource("b", works(FOREVER, cleans_up=0.25))]
    async with Retriever(sources, timeout=10, limit=5) as retriever:
        retrieval = asyncio.create_task(retriever.retrieve("why?"))
        asyncio.get_running_loop().call_later(1, retrieval.cancel)
        await asyncio.wait({retrieval})
        assert (retrieval.cancelled(), now()) == (True, 1.25)
        assert [source.running for source in sources] == [0, 0]
