"""Sources are asked at once, and the answer goes on without those that fail or are late."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence

import pytest

from app.retrieval.gather import Retriever
from app.retrieval.protocol import Degraded, Found, RequiredSourceError, Retrieved
from app.retrieval.searches import GRACE

from .sources import FakeSource, cleans_up, fails, found, ignores_cancellation, takes

FOREVER = 1e9


class LaterError(Exception):
    """An error that knows when to come back."""

    retry_after = 7


async def cancels_itself() -> None:
    """Raise CancelledError, as awaiting a task that somebody else cancelled does."""
    raise asyncio.CancelledError


def now() -> float:
    """Tell the virtual time."""
    return asyncio.get_running_loop().time()


async def ask(
    *sources: FakeSource,
    timeout: float = 10.0,  # noqa: ASYNC109 -- the retriever's
    on_degraded: Callable[[str, Exception], None] | None = None,
) -> Retrieved:
    """Ask these sources one question."""
    async with Retriever(sources, timeout=timeout, limit=5, on_degraded=on_degraded) as retriever:
        return await retriever.retrieve("why?")


def texts(retrieved: Retrieved) -> list[str]:
    """Return what was found."""
    return [one.text for one in retrieved.found]


async def test_three_sources_take_as_long_as_one() -> None:
    """Sources of 300 ms each take 300 ms together."""
    retrieved = await ask(*(FakeSource(name, takes(0.3)) for name in "abc"))
    assert now() == pytest.approx(0.3)
    assert texts(retrieved) == ["a", "b", "c"]


async def test_a_source_is_asked_the_question_for_so_many_texts() -> None:
    """Each source gets the question and the limit."""
    source = FakeSource("a", takes(0))
    await ask(source)
    assert source.asked == [("why?", 5)]


async def test_more_than_the_limit_is_not_taken() -> None:
    """A source that does not keep to the limit has its last texts cut off."""

    class Generous(FakeSource):
        async def search(self, question: str, *, limit: int) -> Sequence[Found]:
            await super().search(question, limit=limit)
            return [found(f"text {number}") for number in range(2 * limit)]

    assert texts(await ask(Generous("a", takes(0)))) == [f"text {number}" for number in range(5)]


async def test_no_sources_find_nothing() -> None:
    """Nothing to ask is no error."""
    assert await ask() == Retrieved((), ())


async def test_results_come_in_the_order_of_the_sources_not_of_arrival() -> None:
    """Of equal ranks the earlier source is first, and the missing are listed in that order too."""
    slow, quick = FakeSource("slow", takes(2)), FakeSource("quick", takes(1))
    late, broken = FakeSource("late", takes(FOREVER)), FakeSource("broken", fails(OSError()))
    retrieved = await ask(late, slow, broken, quick)
    assert texts(retrieved) == ["slow", "quick"]
    assert retrieved.degraded == (Degraded("late", "timed out"), Degraded("broken", "failed"))


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (fails(OSError("password=hunter2")), "failed"),
        (fails(TimeoutError("password=hunter2")), "timed out"),
        (fails(ExceptionGroup("password=hunter2", [OSError()])), "failed"),
        (cancels_itself, "failed"),
        (takes(FOREVER), "timed out"),
    ],
    ids=["error", "its own timeout", "group", "cancelled within", "late"],
)
async def test_a_failure_is_degraded_in_public_words(
    work: Callable[[], Awaitable[object]], reason: str
) -> None:
    """Whatever happens in a source, the others' texts are used and no message gets out."""
    failures: dict[str, Exception] = {}
    retrieved = await ask(
        FakeSource("bad", work), FakeSource("good", takes(1)), on_degraded=failures.__setitem__
    )
    assert retrieved == Retrieved((found("good", source="good"),), (Degraded("bad", reason),))
    assert set(failures) == {"bad"}


async def test_the_exception_goes_to_the_operator() -> None:
    """The callback gets the very exception of the source."""
    failures: list[tuple[str, Exception]] = []
    error = OSError("password=hunter2")
    await ask(FakeSource("a", fails(error)), on_degraded=lambda *told: failures.append(told))
    assert failures == [("a", error)]


async def test_what_came_in_time_is_used_when_the_whole_deadline_strikes() -> None:
    """The deadline of the whole ends the late sources, not the answer."""
    late = FakeSource("late", takes(FOREVER))
    retrieved = await ask(FakeSource("a", takes(1)), late, FakeSource("b", takes(2)), timeout=3)
    assert now() == 3
    assert texts(retrieved) == ["a", "b"]
    assert late.running == 0


async def test_a_source_has_a_deadline_of_its_own() -> None:
    """A source that is late by its own deadline is given up then."""
    source = FakeSource("a", takes(5), timeout=2)
    retrieved = await ask(source, FakeSource("b", takes(3)))
    assert retrieved.degraded == (Degraded("a", "timed out"),)
    assert now() == 3


async def test_its_own_deadline_does_not_outlast_the_whole() -> None:
    """A source may not take longer than the whole may."""
    await ask(FakeSource("a", takes(FOREVER), timeout=99), timeout=3)
    assert now() == 3


@pytest.mark.parametrize(
    ("work", "cause", "seconds"),
    [(fails(OSError(), after=1), OSError, 1), (takes(FOREVER), TimeoutError, 10)],
    ids=["failed", "late"],
)
async def test_a_required_source_ends_the_retrieval(
    work: Callable[[], Awaitable[object]], cause: type[Exception], seconds: float
) -> None:
    """Its failure is raised at once, alone and from its cause; no search is left running."""
    other = FakeSource("other", cleans_up(0.1))
    with pytest.raises(RequiredSourceError, match="'bad'") as raised:
        await ask(other, FakeSource("bad", work, required=True), timeout=10)
    assert isinstance(raised.value.__cause__, cause)
    assert raised.value.__context__ is None
    assert now() == pytest.approx(seconds + 0.1)
    assert other.running == 0


async def test_a_required_source_that_fails_hides_its_message_and_says_when_to_return() -> None:
    """The error's own words name the source and its deadline; `retry_after` is the cause's."""
    with pytest.raises(RequiredSourceError) as raised:
        await ask(FakeSource("a", fails(LaterError("hunter2")), required=True), timeout=4)
    assert str(raised.value) == "the required source 'a' failed (its deadline is 4 s)"
    assert raised.value.retry_after == 7


async def test_an_error_in_the_callback_is_the_callers() -> None:
    """A broken callback is not hidden, and not wrapped in a group."""

    def broken(source: str, error: Exception) -> None:
        raise KeyError(source)

    with pytest.raises(KeyError, match="a"):
        await ask(FakeSource("a", fails(OSError())), on_degraded=broken)


async def test_cancelling_cancels_all_sources_at_once_and_waits_for_them() -> None:
    """When the cancelled retrieval has ended, so have its searches."""
    sources = [FakeSource("a", takes(FOREVER)), FakeSource("b", cleans_up(0.2))]
    async with Retriever(sources, timeout=10, limit=5) as retriever:
        retrieval = asyncio.create_task(retriever.retrieve("why?"))
        await asyncio.sleep(1)
        assert [source.running for source in sources] == [1, 1]
        retrieval.cancel()
        await asyncio.wait({retrieval})
        assert [source.running for source in sources] == [0, 0]
        assert now() == pytest.approx(1.2)
    assert retrieval.cancelled()


async def test_a_cancellation_is_not_lost_in_a_source_that_swallows_it() -> None:
    """A source that answers when it is cancelled does not turn that into an answer."""

    async def answers_when_cancelled() -> None:
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            return

    async with Retriever(
        [FakeSource("a", answers_when_cancelled)], timeout=10, limit=5
    ) as retriever:
        retrieval = asyncio.create_task(retriever.retrieve("why?"))
        await asyncio.sleep(1)
        retrieval.cancel()
        with pytest.raises(asyncio.CancelledError):
            await retrieval


@pytest.mark.parametrize("required", [False, True])
async def test_a_source_that_ignores_its_cancellation_holds_nobody_up(required: bool) -> None:
    """The retrieval goes on without it after the grace; closing the retriever waits for it."""
    end = asyncio.Event()
    stubborn = FakeSource("stubborn", ignores_cancellation(until=end), timeout=1)
    stubborn.required = required
    async with Retriever([stubborn, FakeSource("b", takes(0.5))], timeout=9, limit=5) as retriever:
        if required:
            with pytest.raises(RequiredSourceError):
                await retriever.retrieve("why?")
        else:
            assert texts(await retriever.retrieve("why?")) == ["b"]
        assert now() == pytest.approx(1 + GRACE)
        assert stubborn.running == 1
        asyncio.get_running_loop().call_later(5, end.set)
    assert now() == pytest.approx(6 + GRACE)
    assert stubborn.running == 0


async def test_an_outer_deadline_ends_the_retrieval() -> None:
    """`asyncio.timeout` round a retrieval works as round anything else."""
    async with Retriever([FakeSource("a", takes(FOREVER))], timeout=10, limit=5) as retriever:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await retriever.retrieve("why?")
    assert now() == 2


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_the_end_of_the_process_is_not_a_failed_source(kind: type[BaseException]) -> None:
    """KeyboardInterrupt and SystemExit pass through as they are."""
    other = FakeSource("other", takes(3600))
    failures: list[str] = []
    with pytest.raises(kind):
        asyncio.run(
            ask(
                other,
                FakeSource("bad", fails(kind())),
                on_degraded=lambda name, _: failures.append(name),
            )
        )
    gc.collect()
    assert (other.running, failures) == (0, [])
