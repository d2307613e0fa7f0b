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

ANSWER: list[Step] = [text_chunk("Hello")]
FROM_ONE: list[Step] = [text_chunk("from one")]
FROM_TWO: list[Step] = [text_chunk("from two")]
MODELS = {"one": "model-of-one", "two": "model-of-two"}
DEADLINES = Deadlines(first_token=90, idle=90, total=90)
BUSY = ProviderOverloadedError("busy")
REJECTED = ProviderRejectedError("rejected")
LATE = ProviderTimeoutError("too slow", stage="first_token")
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


def one_of(*scripts: Sequence[Step]) -> ScriptedProvider:
    """Make the first provider."""
    return ScriptedProvider(*scripts, name="one")


def two_of(*scripts: Sequence[Step]) -> ScriptedProvider:
    """Make the fallback."""
    return ScriptedProvider(*scripts, name="two")


def router(*providers: ScriptedProvider, **retry: float) -> Router:
    """Route between providers, with waits that are not left to chance."""
    rules = Retry(**{"attempts": 2, "random": lambda: 1.0, **retry})  # type: ignore[arg-type]
    return Router(providers, models=MODELS, deadlines=DEADLINES, retry=rules)


@pytest.mark.parametrize(
    "kind",
    [
        BrokenStreamError,
        ProviderOverloadedError,
        ProviderRateLimitedError,
        ProviderUnavailableError,
    ],
)
async def test_a_temporary_failure_is_retried(kind: type[ProviderError]) -> None:
    """A failure that may pass before the first token costs a wait, not the answer."""
    one = one_of([kind("once")], ANSWER)
    assert text_of(await ask(router(one))) == "Hello"
    assert (len(one.requests), one.open) == (2, 0)


@pytest.mark.parametrize(("random", "waits"), [(0.0, [1, 2, 4, 5]), (1.0, [2, 4, 8, 10])])
async def test_waits_double_up_to_the_longest(random: float, waits: list[float]) -> None:
    """Each wait is between half and all of twice the last; attempts are bounded."""
    rules = Retry(attempts=5, first_wait=2, longest_wait=10, random=lambda: random)
    assert [rules.wait(attempt, BUSY) for attempt in range(1, 6)] == [*waits, None]
    one = one_of([BUSY], [BUSY], [BUSY], [BUSY], [BUSY])
    provider = Router([one], models=MODELS, deadlines=DEADLINES, retry=rules)
    assert (await ask_until_error(provider))[1] is BUSY
    assert (now(), len(one.requests)) == (sum(waits), 5)


async def test_waits_are_random() -> None:
    """Two callers that failed together do not, as a rule, retry together."""
    waits = {Retry(first_wait=2).wait(1, BUSY) for _ in range(100)}
    assert len(waits) > 50
    assert all(wait is not None and 1 <= wait <= 2 for wait in waits)


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("wait", [0.0, 0.12, 4.0])
async def test_the_providers_wait_is_used(wait: float, explicit: bool) -> None:
    """Where the provider says when, by Retry-After or by its rate limits, that is when."""
    refusal = ProviderRateLimitedError("slow down", retry_after=wait, has_retry_after=explicit)
    await ask(router(one_of([refusal], ANSWER), longest_wait=4.0))
    assert now() == wait


async def test_a_long_wait_is_not_worth_a_slot() -> None:
    """A wait beyond the longest goes to the next provider at once, or to the caller."""
    assert text_of(await ask(router(one_of([limited(4.1)]), two_of(ANSWER)))) == "Hello"
    refusal = limited(4.1)
    assert (await ask_until_error(router(one_of([refusal]))))[1] is refusal
    assert now() == 0.0


@pytest.mark.parametrize(
    ("request_", "model"),
    [
        (QUESTION | {"x": 1}, "gpt-fake"),
        ({"messages": []}, "model-of-one"),
        ({"messages": [], "model": None}, "model-of-one"),
    ],
)
async def test_the_next_provider_answers(request_: JSONObject, model: str) -> None:
    """After the last attempt comes the next, by its own model's name, the rest unchanged."""
    one, two = one_of([BUSY], [BUSY], FROM_ONE), two_of(FROM_TWO)
    provider = router(one, two)
    assert text_of(await ask(provider, request_)) == "from two"
    assert one.requests == [request_ | {"model": model}] * 2
    assert two.requests == [request_ | {"model": "model-of-two"}]
    assert (one.open, two.open) == (0, 0)
    assert text_of(await ask(provider)) == "from one", "the choice is the request's"


@pytest.mark.parametrize(
    ("refusals", "at", "answer", "calls"),
    [
        ([limited(10)], 0, "from two", 1),
        ([limited(10)], 9.9, "from two", 1),
        ([limited(10)], 10, "from one", 2),
        ([limited(10, ProviderOverloadedError)], 9, "from two", 1),
        ([limited(3600)], 59, "from two", 1),
        ([limited(3600)], 60, "from one", 2),
        ([limited(3)], 0, "from one", 2),  # short enough to be waited for by the first request
        ([ProviderRateLimitedError("used up", retry_after=10)], 0, "from one", 2),
        ([limited(10, ProviderUnavailableError)], 0, "from one", 2),
        ([BUSY, BUSY], 0, "from one", 3),
    ],
)
async def test_a_provider_is_skipped_as_long_as_its_retry_after_says(
    refusals: list[ProviderError], at: float, answer: str, calls: int
) -> None:
    """Only the refusal's own Retry-After counts, up to a minute; other providers answer at once."""
    one = one_of(*[[refusal] for refusal in refusals], FROM_ONE, FROM_ONE)
    provider = router(one, two_of(FROM_TWO, FROM_TWO))
    await ask(provider)
    started = now()
    await asyncio.sleep(at - started if at else 0)
    assert text_of(await ask(provider)) == answer
    assert now() == max(at, started)
    assert len(one.requests) == calls + (refusals[0].retry_after == 3)


async def test_the_longest_of_several_refusals_counts() -> None:
    """A refusal that comes late does not shorten the wait of an earlier one."""
    one, two = one_of([2.0, limited(5)], [limited(30)]), two_of(*[FROM_TWO] * 3)
    provider = router(one, two)
    await asyncio.gather(provider.complete(QUESTION), provider.complete(QUESTION))
    await asyncio.sleep(10)
    assert text_of(await ask(provider)) == "from two"
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
    provider = router(one_of([limited(10)], FROM_ONE))
    assert (await ask_until_error(provider))[1] is not None
    assert text_of(await ask(provider)) == "from one"
    assert now() == 0.0


async def test_a_rejected_request_is_sent_once() -> None:
    """What is wrong with the request is wrong everywhere: no retry, no fallback."""
    one, two = one_of([REJECTED]), two_of()
    assert (await ask_until_error(router(one, two)))[1] is REJECTED
    assert two.requests == []


@pytest.mark.parametrize("error", [ProviderAuthenticationError("key"), LATE])
async def test_a_permanent_failure_goes_to_the_next_at_once(error: ProviderError) -> None:
    """A refused key or a passed deadline is not retried, but another provider may answer."""
    assert text_of(await ask(router(one_of([error]), two_of(ANSWER)))) == "Hello"
    assert now() == 0.0


@pytest.mark.parametrize("second", [REJECTED, ProviderUnavailableError("gone", retry_after=9)])
async def test_the_first_providers_failure_is_raised(second: ProviderError) -> None:
    """When all fail, the caller gets the failure of the provider that its request named."""
    one, two = one_of([BUSY], [BUSY]), two_of([second])
    assert (await ask_until_error(router(one, two)))[1] is BUSY
    assert len(two.requests) == 1
    one, two = one_of([BUSY], [BUSY]), two_of([second])
    three = ScriptedProvider(ANSWER, name="two")
    assert text_of(await ask(router(one, two, three))) == "Hello", "a third may still answer"


async def test_nothing_is_retried_after_the_first_token() -> None:
    """The caller has part of an answer: the failure ends it, and no other provider is called."""
    one, two = one_of([text_chunk("Hel"), BUSY]), two_of()
    chunks, error = await ask_until_error(router(one, two))
    assert (text_of(chunks), error) == ("Hel", BUSY)
    assert (len(one.requests), one.open) == (1, 0)


async def test_plain_answers_fall_back_too() -> None:
    """A completion goes the same way as a stream."""
    one, two = one_of([BUSY], [BUSY]), two_of([])
    assert await router(one, two).complete(QUESTION) == {"answered_by": "two"}
    assert [request["model"] for request in two.requests] == ["model-of-two"]


async def test_embeddings_and_models_stay_with_the_first() -> None:
    """Another provider's vectors are of another space; a list of models is no load."""
    one, two = one_of([BUSY], [], [limited(10)], []), two_of()
    provider = router(one, two)
    assert await provider.embed({"input": "x"}) == {"answered_by": "one"}
    for wait in (10.0, 9.0):
        with pytest.raises(ProviderRateLimitedError) as refused:
            await provider.embed({"input": "x"})
        assert refused.value.retry_after == wait
        await asyncio.sleep(1)
    assert len(one.requests) == 3
    assert await provider.models() == [{"answered_by": "one"}]
    assert two.requests == []


async def test_a_cancel_during_the_wait_ends_the_call() -> None:
    """A caller that leaves between two attempts makes no second one."""
    one = one_of([BUSY])
    task = asyncio.create_task(ask(router(one, first_wait=2.0)))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (len(one.requests), now()) == (1, 1.0)


async def test_leaving_early_closes_the_stream() -> None:
    """The stream of whichever provider answered is closed when the caller leaves."""
    one, two = one_of([BUSY], [BUSY]), two_of([text_chunk("Hel"), text_chunk("lo")])
    async with router(one, two).stream(QUESTION) as answer:
        await anext(answer)
        assert two.open == 1
    assert two.open == 0


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
        (ProviderRateLimitedError("used up", retry_after=7), [(1.0, None)]),
        (ProviderOverloadedError("503 or 529"), [(1.0, None)]),
        (LATE, [(1.0, None)]),
        (ProviderTimeoutError("too slow", stage="connect"), []),
        (ProviderTimeoutError("too slow", stage="total"), []),
        (ProviderAuthenticationError("401"), []),
        (REJECTED, []),
        (ProviderUnavailableError("500"), []),
        (BrokenStreamError("cut"), []),
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
    """A served call counts once, with the time at which it began."""
    provider, ceiling = under_ceiling(one_of([2.0, text_chunk("a")]))
    await asyncio.sleep(1)
    await call(provider)
    assert (ceiling.overloads, ceiling.served) == ([], [1.0])


async def test_a_stream_is_served_once_it_is_open() -> None:
    """What becomes of a stream after its opening counts for nothing, also an overload."""
    provider, ceiling = under_ceiling(one_of([text_chunk("a"), ProviderOverloadedError("late")]))
    async with provider.stream(QUESTION) as chunks:
        assert len(ceiling.served) == 1
        with suppress(ProviderOverloadedError):
            _ = [batch async for batch in chunks]
    assert (ceiling.overloads, len(ceiling.served)) == ([], 1)


async def test_of_several_providers_the_last_lowers_the_ceiling() -> None:
    """An earlier one's refusal must not keep calls from the next, and no Retry-After pauses all."""
    provider, ceiling = under_ceiling(one_of([limited(9)], [BUSY]), two_of(ANSWER, [limited(9)]))
    await ask(provider)
    assert (ceiling.overloads, ceiling.served) == ([], [0.0])
    await ask_until_error(provider)
    assert (ceiling.overloads, ceiling.served) == ([(0.0, None)], [0.0])


@every_call
async def test_a_cancelled_call_says_nothing_about_load(call: Ask) -> None:
    """A client that leaves before it is served counts neither way."""
    provider, ceiling = under_ceiling(one_of([60.0]))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await call(provider)
    assert (ceiling.overloads, ceiling.served) == ([], [])
