"""What retries and fallback promise, on a virtual clock."""

import asyncio
from collections.abc import Sequence

import pytest

from app.llm.base import (
    BrokenStreamError,
    ProviderAuthenticationError,
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from app.llm.router import Retry, Router

from .asking import QUESTION, ScriptedProvider, Step, ask, ask_until_error, says, text_of

ANSWER = [says("Hello")]
FROM_ONE, FROM_TWO = [says("from one")], [says("from two")]
MODELS = {"one": "model-of-one", "two": "model-of-two"}
BUSY = ProviderOverloadedError("busy")
REJECTED = ProviderRejectedError("rejected")


def limited(retry_after: float) -> ProviderError:
    """Make the refusal of a provider that says when to come back."""
    return ProviderRateLimitedError("slow down", retry_after=retry_after)


def now() -> float:
    """Return the virtual time in seconds; a test starts at 0."""
    return asyncio.get_running_loop().time()


def one_of(*turns: Sequence[Step]) -> ScriptedProvider:
    """Make the first provider."""
    return ScriptedProvider(*turns, name="one")


def two_of(*turns: Sequence[Step]) -> ScriptedProvider:
    """Make the fallback."""
    return ScriptedProvider(*turns, name="two")


def failover(*providers: ScriptedProvider, **retry: float) -> Router:
    """Put providers behind one, with waits that are not left to chance."""
    rules = Retry(**{"attempts": 2, "random": lambda: 1.0, **retry})  # type: ignore[arg-type]
    return Router(providers, models=MODELS, retry=rules)


@pytest.mark.parametrize(
    "kind",
    [
        BrokenStreamError,
        ProviderOverloadedError,
        ProviderRateLimitedError,
        ProviderUnavailableError,
    ],
)
async def test_what_can_heal_is_tried_again(kind: type[ProviderError]) -> None:
    """A failure that may pass before the first token costs a wait, not the answer."""
    one = one_of([kind("once")], ANSWER)
    assert text_of(await ask(failover(one))) == "Hello"
    assert len(one.requests) == 2
    assert one.open == 0


@pytest.mark.parametrize(("random", "waits"), [(0.0, [1, 2, 4, 5]), (1.0, [2, 4, 8, 10])])
async def test_waits_double_up_to_the_longest(random: float, waits: list[float]) -> None:
    """Each wait is between half and all of twice the last, so that callers spread."""
    seen: list[float] = []

    async def sleep(seconds: float) -> None:
        seen.append(seconds)

    rules = Retry(attempts=5, first_wait=2, longest_wait=10, random=lambda: random)
    one = one_of(*[[BUSY]] * 5)
    provider = Router([one], models=MODELS, retry=rules, sleep=sleep)
    assert (await ask_until_error(provider))[1] is BUSY
    assert seen == waits
    assert len(one.requests) == 5


async def test_waits_are_drawn_by_chance() -> None:
    """Two callers that failed together do not, as a rule, come back together."""
    waits = {Retry(first_wait=2).wait(1, BUSY) for _ in range(100)}
    assert len(waits) > 50
    assert all(wait is not None and 1 <= wait <= 2 for wait in waits)


@pytest.mark.parametrize("advice", [0.0, 0.12, 4.0])
async def test_the_providers_advice_is_the_wait(advice: float) -> None:
    """Where the provider says when, that is when."""
    limited = ProviderRateLimitedError("slow down", retry_after=advice)
    await ask(failover(one_of([limited], ANSWER), longest_wait=4.0))
    assert now() == advice


async def test_long_advice_is_not_waited_out() -> None:
    """A wait beyond the longest goes to the next provider at once, or to the caller."""
    limited = ProviderRateLimitedError("slow down", retry_after=4.1)
    one, two = one_of([limited]), two_of(ANSWER)
    assert text_of(await ask(failover(one, two, longest_wait=4.0))) == "Hello"
    _, error = await ask_until_error(failover(one_of([limited]), longest_wait=4.0))
    assert error is limited
    assert now() == 0.0


async def test_the_next_provider_answers_when_the_first_cannot() -> None:
    """After the last attempt the next one is asked, by its own model's name, the rest unchanged."""
    one, two = one_of([BUSY], [BUSY]), two_of(ANSWER)
    assert text_of(await ask(failover(one, two), QUESTION | {"x": 1})) == "Hello"
    assert one.requests == [QUESTION | {"x": 1}] * 2
    assert two.requests == [QUESTION | {"x": 1, "model": "model-of-two"}]
    assert (one.open, two.open) == (0, 0)


@pytest.mark.parametrize("request_", [{"messages": []}, {"messages": [], "model": None}])
async def test_a_request_without_a_model_gets_the_providers_own(
    request_: dict[str, object],
) -> None:
    """Each provider's model is the default at that provider."""
    one, two = one_of([BUSY], [BUSY]), two_of(ANSWER)
    await ask(failover(one, two), request_)
    assert [request["model"] for request in one.requests] == ["model-of-one"] * 2
    assert [request["model"] for request in two.requests] == ["model-of-two"]


async def test_the_choice_is_the_requests() -> None:
    """The next request asks the first provider first again."""
    one, two = one_of([BUSY], [BUSY], [says("from one")]), two_of([says("from two")])
    provider = failover(one, two)
    assert text_of(await ask(provider)) == "from two"
    assert text_of(await ask(provider)) == "from one"


async def test_one_that_says_when_is_left_alone_until_then() -> None:
    """Nobody asks it in the meantime, the next answers at once, and then it is first again."""
    one, two = one_of([limited(10)], FROM_ONE), two_of(*[FROM_TWO] * 3)
    provider = failover(one, two)
    for _ in range(2):
        assert text_of(await ask(provider)) == "from two"
        assert (now(), len(one.requests)) == (0.0, 1)
    await asyncio.sleep(9)  # what is left is short enough for a wait, but the next need not
    assert text_of(await ask(provider)) == "from two"
    await asyncio.sleep(1)
    assert text_of(await ask(provider)) == "from one"
    assert now() == 10.0


async def test_nobody_is_left_alone_for_longer_than_the_longest_rest() -> None:
    """An hour of advice is taken for a minute: then a request finds out."""
    one, two = one_of([limited(3600)], FROM_ONE), two_of(FROM_TWO)
    provider = failover(one, two)
    assert text_of(await ask(provider)) == "from two"
    await asyncio.sleep(60)
    assert text_of(await ask(provider)) == "from one"


async def test_shortest_wait_is_told_when_all_are_left_alone() -> None:
    """The failure is that of the first, the wait that of the one who is back soonest."""
    one, two = one_of([limited(50)]), two_of([ProviderOverloadedError("busy", retry_after=20)])
    provider = failover(one, two)
    for wait in (20.0, 15.0):
        _, error = await ask_until_error(provider)
        assert isinstance(error, ProviderRateLimitedError)
        assert error.retry_after == wait
        await asyncio.sleep(5)
    assert (len(one.requests), len(two.requests)) == (1, 1)


async def test_it_fails_as_it_did_while_it_is_left_alone() -> None:
    """A provider without capacity is not said to be over its rate."""
    busy = ProviderOverloadedError("busy", retry_after=20)
    provider = failover(one_of([busy]), two_of([limited(50)]))
    for _ in range(2):
        assert isinstance((await ask_until_error(provider))[1], ProviderOverloadedError)


async def test_short_rest_is_waited_out_where_all_are_left_alone() -> None:
    """The one who is back soonest is asked as soon as it is back, if that is worth a slot."""
    one, two = one_of([limited(30)]), two_of([limited(5)], FROM_TWO)
    provider = failover(one, two, longest_wait=4.0)
    assert (await ask_until_error(provider))[1] is not None
    await asyncio.sleep(1)
    assert text_of(await ask(provider)) == "from two"
    assert now() == 5.0
    assert len(one.requests) == 1


async def test_refusals_that_come_late_do_not_shorten_a_rest() -> None:
    """Of several refusals the one that asks for the longest rest counts."""
    one, two = one_of([2.0, limited(5)], [limited(30)]), two_of(*[FROM_TWO] * 3)
    provider = failover(one, two)
    await asyncio.gather(provider.complete(QUESTION), provider.complete(QUESTION))
    await asyncio.sleep(10)
    assert text_of(await ask(provider)) == "from two"
    assert (now(), len(one.requests)) == (12.0, 2)


async def test_advice_that_was_waited_out_is_over() -> None:
    """The request that waited asks again, whether or not its timer was a hair early."""

    async def sleep(_: float) -> None:
        """Take no time at all."""

    one, two = one_of([limited(3)], FROM_ONE), two_of()
    provider = Router([one, two], models=MODELS, sleep=sleep)
    assert text_of(await ask(provider)) == "from one"


async def test_one_that_is_left_alone_is_asked_when_the_next_cannot_answer() -> None:
    """What is left of a short rest is waited out before a request fails."""
    one, two = one_of([limited(5)], FROM_ONE), two_of(FROM_TWO, [BUSY], [BUSY])
    provider = failover(one, two, longest_wait=4.0, first_wait=1.0)
    await ask(provider)
    await asyncio.sleep(1)
    assert text_of(await ask(provider)) == "from one"
    assert now() == 5.0


async def test_fallbacks_rejection_is_not_told_while_the_first_is_left_alone() -> None:
    """A request that does not fit the fallback may fit the first, when that is back."""
    one, two = one_of([limited(50)]), two_of([REJECTED], [REJECTED])
    provider = failover(one, two)
    for _ in range(2):
        assert isinstance((await ask_until_error(provider))[1], ProviderRateLimitedError)
    assert (len(one.requests), len(two.requests)) == (1, 2)


@pytest.mark.parametrize("error", [BUSY, ProviderUnavailableError("gone", retry_after=9)], ids=str)
async def test_other_failures_leave_nobody_alone(error: ProviderError) -> None:
    """Only a refusal for the provider's load, with its own word for how long, is a reason."""
    one, two = one_of([error], FROM_ONE), two_of(FROM_TWO)
    provider = failover(one, two, attempts=1)
    assert text_of(await ask(provider)) == "from two"
    assert text_of(await ask(provider)) == "from one"


async def test_single_provider_is_not_left_alone() -> None:
    """Where there is no next, each request asks: whether to hold back is the caller's affair."""
    one = one_of([limited(10)], FROM_ONE)
    provider = failover(one)
    assert (await ask_until_error(provider))[1] is not None
    assert text_of(await ask(provider)) == "from one"
    assert now() == 0.0


async def test_a_rejected_request_is_asked_once() -> None:
    """What is wrong with the request is wrong everywhere: no retry, no fallback."""
    one, two = one_of([REJECTED]), two_of()
    assert (await ask_until_error(failover(one, two)))[1] is REJECTED
    assert two.requests == []


@pytest.mark.parametrize(
    "error",
    [ProviderAuthenticationError("key"), ProviderTimeoutError("slow", stage="first_token")],
)
async def test_what_cannot_heal_goes_to_the_next_at_once(error: ProviderError) -> None:
    """A refused key or a passed deadline is not tried again, but another provider may answer."""
    one, two = one_of([error]), two_of(ANSWER)
    assert text_of(await ask(failover(one, two))) == "Hello"
    assert now() == 0.0


@pytest.mark.parametrize("second", [REJECTED, ProviderUnavailableError("gone", retry_after=9)])
async def test_the_first_providers_failure_is_the_one_told(second: ProviderError) -> None:
    """When all fail, the caller hears from the one it asked, not that a fallback did not fit."""
    one, two = one_of([BUSY], [BUSY]), two_of([second])
    assert (await ask_until_error(failover(one, two)))[1] is BUSY
    assert len(two.requests) == 1


async def test_a_fallback_that_does_not_fit_is_passed_over() -> None:
    """A request that only the second provider calls bad may still be right for the third."""
    one, two = one_of([BUSY], [BUSY]), two_of([REJECTED])
    three = ScriptedProvider(ANSWER, name="two")
    assert text_of(await ask(failover(one, two, three))) == "Hello"


async def test_nothing_is_tried_again_after_the_first_token() -> None:
    """The caller has part of an answer: the failure ends it, and nobody else is asked."""
    one, two = one_of([says("Hel"), BUSY]), two_of()
    chunks, error = await ask_until_error(failover(one, two))
    assert text_of(chunks) == "Hel"
    assert error is BUSY
    assert len(one.requests) == 1
    assert one.open == 0


async def test_plain_calls_are_tried_again_too() -> None:
    """A completion goes the same way as a stream."""
    one, two = one_of([BUSY], [BUSY]), two_of([])
    assert await failover(one, two).complete(QUESTION) == {"answered_by": "two"}
    assert [request["model"] for request in two.requests] == ["model-of-two"]


async def test_embeddings_and_models_stay_with_the_first() -> None:
    """Another provider's vectors and models are not what was asked for; retries are fine."""
    one = one_of([BUSY], [], [BUSY], [], [BUSY], [BUSY])
    two = two_of()
    provider = failover(one, two)
    assert await provider.embed({"input": "x"}) == {"answered_by": "one"}
    assert await provider.models() == [{"answered_by": "one"}]
    with pytest.raises(ProviderOverloadedError):
        await provider.embed({"input": "x"})
    assert two.requests == []


async def test_embeddings_leave_the_first_alone_and_the_list_of_models_does_not() -> None:
    """Embeddings are load, and fail without being asked for; a list of models is none."""
    one, two = one_of([limited(10)], [], [BUSY], []), two_of()
    provider = failover(one, two)
    for wait in (10.0, 9.0):
        with pytest.raises(ProviderRateLimitedError) as refused:
            await provider.embed({"input": "x"})
        assert refused.value.retry_after == wait
        await asyncio.sleep(1)
    assert len(one.requests) == 1
    assert await provider.models() == [{"answered_by": "one"}]


async def test_cancelling_during_the_wait_asks_no_more() -> None:
    """A caller that leaves between two attempts makes no second one."""
    one = one_of([BUSY])
    task = asyncio.create_task(ask(failover(one, first_wait=2.0)))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(one.requests) == 1
    assert now() == 1.0


async def test_leaving_early_closes_the_stream() -> None:
    """The stream that was opened is closed when the caller leaves, whichever provider's it is."""
    one, two = one_of([BUSY], [BUSY]), two_of([says("Hel"), says("lo")])
    async with failover(one, two).stream(QUESTION) as answer:
        await anext(answer)
        assert two.open == 1
    assert two.open == 0
