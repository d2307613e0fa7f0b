"""What retries, fallback and the feedback to the ceiling promise, on a virtual clock."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import pytest

from app.llm.base import (
    BrokenStreamError,
    JSONObject,
    Provider,
    ProviderAuthenticationError,
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from app.llm.router import Retry, Router
from app.llm.stream import Deadlines

from . import QUESTION, ScriptedProvider, Step, ask, ask_until_error, text_chunk, text_of

Script = Sequence[Step]
ONE: Script = [text_chunk("one")]
TWO: Script = [text_chunk("two")]
MODELS = {"one": "model-of-one", "two": "model-of-two"}
DEADLINES = Deadlines(first_token=90, idle=90, total=90)
BROKEN = BrokenStreamError("broken")
BUSY = ProviderOverloadedError("busy")
GONE = ProviderUnavailableError("gone", retry_after=9)
KEY = ProviderAuthenticationError("key")
LATE = ProviderTimeoutError("too slow", stage="first_token")
REJECTED = ProviderRejectedError("rejected")
USED_UP = ProviderRateLimitedError("used up", retry_after=10)
Ask = Callable[[Provider], Awaitable[object]]
CALLS: dict[str, Ask] = {
    "stream": ask,
    "complete": lambda provider: provider.complete(QUESTION),
    "embed": lambda provider: provider.embed(QUESTION),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


def limited(
    retry_after: float, kind: type[ProviderError] = ProviderRateLimitedError
) -> ProviderError:
    """Make the refusal of a provider that sends a Retry-After."""
    return kind("slow down", retry_after=retry_after, has_retry_after=True)


def now() -> float:
    """Return the virtual time in seconds; a test starts at 0."""
    return asyncio.get_running_loop().time()


def one_of(*scripts: Script) -> ScriptedProvider:
    """Make the first provider."""
    return ScriptedProvider(*scripts, name="one")


def two_of(*scripts: Script) -> ScriptedProvider:
    """Make the fallback."""
    return ScriptedProvider(*scripts, name="two")


def router(*providers: ScriptedProvider) -> Router:
    """Route between providers with two attempts and a first wait of a second, without chance."""
    rules = Retry(attempts=2, first_wait=1.0, longest_wait=4.0, random=lambda: 1.0)
    return Router(providers, models=MODELS, deadlines=DEADLINES, retry=rules)


@pytest.mark.parametrize(
    ("first", "second", "text", "error", "calls", "at"),
    [
        *(([[error], ONE], [], "one", None, (2, 0), 1) for error in (BROKEN, BUSY)),
        ([[ProviderUnavailableError("once")], ONE], [], "one", None, (2, 0), 1),
        ([[ProviderRateLimitedError("once")], ONE], [], "one", None, (2, 0), 1),
        *(([[limited(wait)], ONE], [], "one", None, (2, 0), wait) for wait in (0, 0.12, 4)),
        ([[USED_UP]], [TWO], "two", None, (1, 1), 0),  # not worth a slot for so long
        ([[limited(4.1)]], [TWO], "two", None, (1, 1), 0),
        ([[BUSY], [BUSY]], [TWO], "two", None, (2, 1), 1),
        ([[KEY]], [TWO], "two", None, (1, 1), 0),  # permanent here, but not elsewhere
        ([[LATE]], [TWO], "two", None, (1, 1), 0),
        ([[REJECTED]], [], "", REJECTED, (1, 0), 0),  # wrong here is wrong everywhere
        ([[BUSY], [BUSY]], [[REJECTED]], "", BUSY, (2, 1), 1),
        ([[BUSY], [BUSY]], [[GONE]], "", BUSY, (2, 1), 1),
        ([[text_chunk("Hel"), BUSY]], [], "Hel", BUSY, (1, 0), 0),  # after the first token
    ],
)
async def test_a_failure_is_retried_then_the_next_provider_called(
    first: list[Script],
    second: list[Script],
    text: str,
    error: ProviderError | None,
    calls: tuple[int, int],
    at: float,
) -> None:
    """Before the first token a failure is retried here, elsewhere or not at all; then never."""
    one, two = one_of(*first), two_of(*second)
    chunks, failure = await ask_until_error(router(one, two))
    assert (text_of(chunks), failure) == (text, error)
    assert (len(one.requests), len(two.requests)) == calls
    assert now() == at
    assert (one.open, two.open) == (0, 0)


@pytest.mark.parametrize(("random", "waits"), [(0.0, [1, 2, 4, 5]), (1.0, [2, 4, 8, 10])])
async def test_waits_double_up_to_the_longest(random: float, waits: list[float]) -> None:
    """Each wait is between half and all of twice the last; attempts are bounded."""
    rules = Retry(attempts=5, first_wait=2, longest_wait=10, random=lambda: random)
    assert [rules.wait(attempt, BUSY) for attempt in range(1, 6)] == [*waits, None]
    one = one_of([BUSY], [BUSY], [BUSY], [BUSY], [BUSY])
    provider = Router([one], models=MODELS, deadlines=DEADLINES, retry=rules)
    assert (await ask_until_error(provider))[1] is BUSY
    assert (now(), len(one.requests)) == (sum(waits), 5)


@pytest.mark.parametrize(
    ("request_", "model"),
    [
        (QUESTION | {"x": 1}, "gpt-fake"),
        ({"messages": []}, "model-of-one"),
        ({"messages": [], "model": None}, "model-of-one"),
    ],
)
async def test_the_next_provider_gets_its_own_model(request_: JSONObject, model: str) -> None:
    """A fallback is asked by its own model's name, the rest unchanged, for this request only."""
    one, two = one_of([KEY], ONE), two_of(TWO)
    provider = router(one, two)
    assert text_of(await ask(provider, request_)) == "two"
    assert one.requests == [request_ | {"model": model}]
    assert two.requests == [request_ | {"model": "model-of-two"}]
    assert text_of(await ask(provider)) == "one"


@pytest.mark.parametrize(
    ("refusals", "at", "answer", "calls"),
    [
        ([limited(10)], 0, "two", 1),
        ([limited(10)], 9.9, "two", 1),
        ([limited(10)], 10, "one", 2),
        ([limited(10, ProviderOverloadedError)], 9, "two", 1),
        ([limited(3600)], 59, "two", 1),
        ([limited(3600)], 60, "one", 2),
        ([limited(3)], 3, "one", 3),  # short enough to be waited for by the first request
        ([USED_UP], 0, "one", 2),
        ([limited(10, ProviderUnavailableError)], 0, "one", 2),
        ([BUSY, BUSY], 1, "one", 3),
    ],
)
async def test_a_provider_is_skipped_as_long_as_its_retry_after_says(
    refusals: list[ProviderError], at: float, answer: str, calls: int
) -> None:
    """Only the refusal's own Retry-After counts, up to a minute; other providers answer at once."""
    one = one_of(*[[refusal] for refusal in refusals], ONE, ONE)
    provider = router(one, two_of(TWO, TWO))
    await ask(provider)
    await asyncio.sleep(at - now())
    assert text_of(await ask(provider)) == answer
    assert (now(), len(one.requests)) == (at, calls)


async def test_the_longest_of_several_refusals_counts() -> None:
    """A refusal that comes late does not shorten the wait of an earlier one."""
    one, two = one_of([2.0, limited(5)], [limited(30)]), two_of(*[TWO] * 3)
    provider = router(one, two)
    await asyncio.gather(provider.complete(QUESTION), provider.complete(QUESTION))
    await asyncio.sleep(10)
    assert text_of(await ask(provider)) == "two"
    assert len(one.requests) == 2


async def test_the_failure_is_the_firsts_with_the_shortest_wait() -> None:
    """When all are skipped, the error has the type of the first's and the wait of the soonest."""
    one, two = one_of([limited(50, ProviderOverloadedError)]), two_of([limited(20)])
    provider = router(one, two)
    for wait in (20.0, 15.0):
        _, error = await ask_until_error(provider)
        assert isinstance(error, ProviderOverloadedError)
        assert error.retry_after == wait
        await asyncio.sleep(5)
    assert (len(one.requests), len(two.requests)) == (1, 1)


async def test_a_single_provider_is_not_skipped() -> None:
    """Without an alternative each request calls: holding back is the ceiling's business."""
    provider = router(one_of([limited(10)], ONE))
    assert (await ask_until_error(provider))[1] is not None
    assert text_of(await ask(provider)) == "one"
    assert now() == 0.0


async def test_plain_answers_fall_back_and_embeddings_and_models_do_not() -> None:
    """Another provider's vectors are of another space; a list of models is no load."""
    one, two = one_of([KEY], [], [limited(10)], []), two_of([])
    provider = router(one, two)
    assert await provider.complete(QUESTION) == {"answered_by": "two"}
    assert await provider.embed({"input": "x"}) == {"answered_by": "one"}
    for wait in (10.0, 9.0):
        with pytest.raises(ProviderRateLimitedError) as refused:
            await provider.embed({"input": "x"})
        assert refused.value.retry_after == wait
        await asyncio.sleep(1)
    assert len(one.requests) == 3
    assert await provider.models() == [{"answered_by": "one"}]
    assert len(two.requests) == 1


async def test_a_cancel_during_the_wait_ends_the_call() -> None:
    """A caller that leaves between two attempts makes no second one."""
    one = one_of([BUSY])
    task = asyncio.create_task(ask(router(one)))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (len(one.requests), now()) == (1, 0.5)


class RecordingCeiling:
    """Records served calls by their start, overloads by their start and wait."""

    def __init__(self) -> None:
        self.served: list[float] = []
        self.overloads: list[tuple[float, float | None]] = []

    def on_success(self, started_at: float) -> None:
        """Record a served call."""
        self.served.append(started_at)

    def on_overload(self, started_at: float, retry_after: float | None) -> None:
        """Record a refused call."""
        self.overloads.append((started_at, retry_after))


def under_ceiling(*providers: ScriptedProvider) -> tuple[Router, RecordingCeiling]:
    """Route between providers without retries, under a ceiling."""
    ceiling = RecordingCeiling()
    rules = Retry(attempts=1)
    router = Router(providers, models=MODELS, deadlines=DEADLINES, retry=rules, ceiling=ceiling)
    return router, ceiling


@every_call
@pytest.mark.parametrize(
    ("error", "overloads"),
    [
        (limited(7), [(1.0, 7.0)]),
        (USED_UP, [(1.0, None)]),
        (BUSY, [(1.0, None)]),
        (LATE, [(1.0, None)]),
        (ProviderTimeoutError("too slow", stage="connect"), []),
        (ProviderTimeoutError("too slow", stage="total"), []),
        *((error, []) for error in (KEY, REJECTED, GONE, BROKEN)),
    ],
    ids=str,
)
async def test_only_overload_lowers_the_ceiling(
    call: Ask, error: ProviderError, overloads: list[tuple[float, float | None]]
) -> None:
    """429, 503, 529 and a late first token count, with a Retry-After; nothing else does."""
    provider, ceiling = under_ceiling(one_of([error]))
    await asyncio.sleep(1)
    with pytest.raises(type(error)):
        await call(provider)
    assert (ceiling.overloads, ceiling.served) == (overloads, [])


@every_call
async def test_a_served_call_counts_once(call: Ask) -> None:
    """A served call counts once, with its start; one that is cancelled counts neither way."""
    provider, ceiling = under_ceiling(one_of([60.0], [2.0, *ONE]))
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            await call(provider)
    await call(provider)
    assert (ceiling.overloads, ceiling.served) == ([], [1.0])


async def test_a_stream_is_served_once_it_is_open() -> None:
    """What becomes of a stream after its opening counts for nothing, also an overload."""
    provider, ceiling = under_ceiling(one_of([*ONE, BUSY]))
    async with provider.stream(QUESTION) as chunks:
        assert len(ceiling.served) == 1
        with suppress(ProviderOverloadedError):
            _ = [batch async for batch in chunks]
    assert (ceiling.overloads, len(ceiling.served)) == ([], 1)


async def test_of_several_providers_the_last_lowers_the_ceiling() -> None:
    """An earlier one's refusal must not keep calls from the next, and no Retry-After pauses all."""
    provider, ceiling = under_ceiling(one_of([limited(9)], [BUSY]), two_of(TWO, [limited(9)]))
    await ask(provider)
    assert (ceiling.overloads, ceiling.served) == ([], [0.0])
    await ask_until_error(provider)
    assert (ceiling.overloads, ceiling.served) == ([(0.0, None)], [0.0])
