"""What retries and fallback promise, on a virtual clock."""

import asyncio
from collections.abc import Sequence

import pytest

from app.llm.failover import FailoverProvider, Retry
from app.llm.protocol import (
    BrokenStreamError,
    ProviderAuthenticationError,
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)

from .asking import QUESTION, ScriptedProvider, Step, ask, ask_until_error, says, text_of

ANSWER = [says("Hello")]
MODELS = {"one": "model-of-one", "two": "model-of-two"}
BUSY = ProviderOverloadedError("busy")
REJECTED = ProviderRejectedError("rejected")


def now() -> float:
    """Return the virtual time in seconds; a test starts at 0."""
    return asyncio.get_running_loop().time()


def one_of(*turns: Sequence[Step]) -> ScriptedProvider:
    """Make the first provider."""
    return ScriptedProvider(*turns, name="one")


def two_of(*turns: Sequence[Step]) -> ScriptedProvider:
    """Make the fallback."""
    return ScriptedProvider(*turns, name="two")


def failover(*providers: ScriptedProvider, **retry: float) -> FailoverProvider:
    """Put providers behind one, with waits that are not left to chance."""
    rules = Retry(**{"attempts": 2, "random": lambda: 1.0, **retry})  # type: ignore[arg-type]
    return FailoverProvider(providers, models=MODELS, retry=rules)


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
    provider = FailoverProvider([one], models=MODELS, retry=rules, sleep=sleep)
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
