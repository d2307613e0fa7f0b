"""Sources are searched at once, and the answer goes on without those that fail or are late.

Everything runs on a virtual clock, so that times are exact.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from app.retrieval.base import Degraded, Found, Retrieved
from app.retrieval.gather import Retriever

FOREVER = 1e9
SECRET = "password=hunter2"
MISSING = dict[str, tuple[str, type[Exception]]]


@dataclass(eq=False)
class FakeSource:
    """Finds its own name `found` times, or fails; counts its searches that run."""

    name: str
    takes: float = 1.0
    error: Exception | None = None
    found: int = 1
    running: int = 0
    most: int = 0

    async def search(self, question: str, *, limit: int) -> Sequence[Found]:
        """Search for as long as it takes."""
        assert (question, limit) == ("why?", 5)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.running -= 1
        if self.error is not None:
            raise self.error
        return [Found("", f"{self.name} {n}", self.name) for n in range(self.found)]


def over(*sources: FakeSource, slots: int = 9, missing: MISSING | None = None) -> Retriever:
    """Make a retriever, which notes the sources that are `missing`."""
    noted = {} if missing is None else missing
    return Retriever(
        dict.fromkeys(sources, slots),
        timeout=10,
        queue_timeout=20,
        limit=5,
        on_degraded=lambda one, error: noted.update({one.source: (one.reason, type(error))}),
    )


def now() -> float:
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


async def test_sources_are_searched_side_by_side() -> None:
    """Three sources of 300 ms take 300 ms; no source gives more than the limit."""
    retrieved = await over(*[FakeSource(name, 0.3, found=9) for name in "abc"]).retrieve("why?")
    assert now() == pytest.approx(0.3)
    assert [one.text for one in retrieved.found[:4]] == ["a 0", "b 0", "c 0", "a 1"]
    assert (len(retrieved.found), retrieved.degraded) == (15, [])


@pytest.mark.parametrize(
    ("takes", "error", "reason", "kind", "ends"),
    [
        (0, OSError(SECRET), "failed", OSError, 1),
        (2, TimeoutError(SECRET), "timed out", TimeoutError, 2),
        (0, ExceptionGroup(SECRET, [OSError()]), "failed", ExceptionGroup, 1),
        (FOREVER, None, "timed out", TimeoutError, 10),
    ],
    ids=["error", "timeout of its own", "group", "late"],
)
async def test_a_source_that_fails_is_degraded(
    takes: float, error: Exception | None, reason: str, kind: type[Exception], ends: float
) -> None:
    """The others' passages are used; the public gets a reason, the operator the exception."""
    missing: MISSING = {}
    bad = FakeSource("bad", takes, error)
    retrieved = await over(bad, FakeSource("good"), missing=missing).retrieve("why?")
    assert retrieved == Retrieved([Found("", "good 0", "good")], [Degraded("bad", reason)])
    assert missing == {"bad": (reason, kind)}
    assert (now(), bad.running) == (ends, 0)


async def test_waiting_for_a_slot_is_not_the_sources_time() -> None:
    """A search waits for a slot up to its queue timeout; its own timeout begins after that."""
    source = FakeSource("slow", takes=9)
    retriever = over(source, FakeSource("fast"), slots=2)
    answers = await asyncio.gather(*[retriever.retrieve("why?") for _ in range(8)])
    assert [answer.degraded for answer in answers] == [[]] * 6 + [
        [Degraded("slow", "overloaded")]
    ] * 2
    assert all(answer.found[-1].source == "fast" for answer in answers)
    assert (source.most, now()) == (2, 27)


async def test_cancellation_ends_all_searches() -> None:
    """A retrieval that is cancelled cancels every search, and gives its slots back."""
    sources = [FakeSource("a", FOREVER), FakeSource("b", FOREVER)]
    retriever = over(*sources, slots=1)
    retrievals = [asyncio.create_task(retriever.retrieve("why?")) for _ in range(2)]
    await asyncio.sleep(1)
    for retrieval in retrievals:
        retrieval.cancel()
    await asyncio.wait(retrievals)
    assert [retrieval.cancelled() for retrieval in retrievals] == [True, True]
    sources[0].takes = sources[1].takes = 1
    assert len((await retriever.retrieve("why?")).found) == 2
    assert [source.running for source in sources] == [0, 0]
