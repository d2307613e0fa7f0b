"""What the deadlines promise, on a virtual clock; over real sockets in test_openai_endings."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable

import pytest

from app.llm.base import BrokenStreamError, JSONObject, ProviderTimeoutError
from app.llm.deadlines import DeadlineProvider, Deadlines

from .asking import (
    FINISH,
    QUESTION,
    ROLE,
    ScriptedProvider,
    Step,
    ask,
    ask_until_error,
    says,
    text_of,
)

DEADLINES = Deadlines(first_token=10, idle=5, total=60)
HANG = 1000.0


def now() -> float:
    """Return the virtual time in seconds; a test starts at 0."""
    return asyncio.get_running_loop().time()


def under_deadlines(*turn: Step) -> tuple[ScriptedProvider, DeadlineProvider]:
    """Make a provider for one call, and the same under DEADLINES."""
    provider = ScriptedProvider(turn)
    return provider, DeadlineProvider(provider, DEADLINES)


async def test_an_answer_in_time_is_complete() -> None:
    """Every chunk arrives once and in order, those before the first token included."""
    answer = [says("One"), says("Two"), FINISH]
    _, provider = under_deadlines(3.0, ROLE, 6.9, answer[0], 4.9, answer[1], 4.9, answer[2], 4.9)
    assert await ask(provider) == [ROLE, *answer]


async def test_the_stream_opens_with_the_first_token() -> None:
    """Opening returns when there is something to say: until then the caller can still choose."""
    one = says("One")
    _, provider = under_deadlines(1.0, ROLE, 2.0, one, 4.0, says("Two"))
    async with provider.stream(QUESTION) as answer:
        assert now() == 3.0
        assert await anext(answer) == [ROLE, one]
        assert now() == 3.0


@pytest.mark.parametrize("turn", [[HANG], [ROLE, HANG], [ROLE, 9.0, ROLE, HANG]])
async def test_the_first_token_has_a_deadline(turn: list[Step]) -> None:
    """It counts from the call; a role without words is no token and does not extend it."""
    inner, provider = under_deadlines(*turn)
    chunks, error = await ask_until_error(provider)
    assert (chunks, now()) == ([], 10.0)
    assert isinstance(error, ProviderTimeoutError)
    assert error.stage == "first_token"
    assert str(error) == "one passed the first_token deadline of 10 s"
    assert inner.open == 0


async def test_silence_between_tokens_has_a_deadline() -> None:
    """What came before it has been delivered; the provider's stream is closed."""
    inner, provider = under_deadlines(9.0, says("One"), 4.0, says("Two"), HANG)
    chunks, error = await ask_until_error(provider)
    assert (text_of(chunks), now()) == ("OneTwo", 18.0)
    assert isinstance(error, ProviderTimeoutError)
    assert error.stage == "idle"
    assert inner.open == 0


async def test_the_whole_answer_has_a_deadline() -> None:
    """An answer that never ends is cut at the total, however briskly it comes."""
    more: list[Step] = [4.0, says("more ")]
    inner, provider = under_deadlines(*more * 100)
    chunks, error = await ask_until_error(provider)
    assert (len(chunks), now()) == (14, 60.0)
    assert isinstance(error, ProviderTimeoutError)
    assert error.stage == "total"
    assert inner.open == 0


async def test_the_shortest_deadline_is_the_one_named() -> None:
    """A total below the first token's deadline holds for the first token too."""
    inner = ScriptedProvider([HANG])
    provider = DeadlineProvider(inner, Deadlines(first_token=10, idle=5, total=2))
    _, error = await ask_until_error(provider)
    assert now() == 2.0
    assert str(error) == "one passed the total deadline of 2 s"


async def test_the_callers_own_time_is_not_silence() -> None:
    """A slow reader is not the provider's fault: only waiting for a chunk counts as idle."""
    _, provider = under_deadlines(says("One"), 1.0, says("Two"), 1.0, says("Three"))
    texts = []
    async with provider.stream(QUESTION) as answer:
        async for batch in answer:
            texts += batch
            await asyncio.sleep(15)
    assert text_of(texts) == "OneTwoThree"


async def test_the_callers_own_time_counts_in_the_total() -> None:
    """An answer that is not whole by then is over, though it was the reader who took the time."""
    _, provider = under_deadlines(says("One"), says("Two"))
    async with provider.stream(QUESTION) as answer:
        await anext(answer)
        await asyncio.sleep(61)
        with pytest.raises(ProviderTimeoutError, match="total deadline of 60 s"):
            await anext(answer)


@pytest.mark.parametrize("turn", [[], [1.0], [ROLE]])
async def test_an_empty_answer_is_an_answer(turn: list[Step]) -> None:
    """A stream that ends without a word ends here too, at once and without an error."""
    _, provider = under_deadlines(*turn)
    assert text_of(await ask(provider)) == ""
    assert now() <= 1.0


@pytest.mark.parametrize("turn", [[], [1.0], [ROLE], [says("One")], [says("One"), 1.0]])
async def test_the_providers_own_errors_pass(turn: list[Step]) -> None:
    """An error is the provider's, before the first token and after it, and closes the stream."""
    broken = BrokenStreamError("broken")
    inner, provider = under_deadlines(*turn, broken)
    _, error = await ask_until_error(provider)
    assert error is broken
    assert inner.open == 0


@pytest.mark.parametrize(
    ("call", "seconds"),
    [
        (lambda provider: provider.complete(QUESTION), 60.0),
        (lambda provider: provider.embed(QUESTION), 60.0),
        (lambda provider: provider.models(), 10.0),
    ],
)
async def test_plain_calls_have_a_deadline(
    call: Callable[[DeadlineProvider], Awaitable[JSONObject]], seconds: float
) -> None:
    """A whole answer may take the total; a list of models the first token's time."""
    assert await call(under_deadlines(seconds - 1)[1])
    started = now()
    inner, provider = under_deadlines(HANG)
    with pytest.raises(ProviderTimeoutError):
        await call(provider)
    assert now() - started == seconds
    assert inner.open == 0


async def test_leaving_early_closes_the_stream() -> None:
    """A caller that breaks off leaves no open stream behind, and nothing for the collector."""
    inner, provider = under_deadlines(says("One"), says("Two"))
    async with provider.stream(QUESTION) as answer:
        async for _ in answer:
            break
        assert inner.open == 1
    assert inner.open == 0
    assert [_ async for _ in answer] == []


@pytest.mark.parametrize("turn", [[HANG], [ROLE, HANG], [says("One"), HANG]])
async def test_cancelling_closes_the_stream(turn: list[Step]) -> None:
    """Cancellation is not mistaken for a timeout, in whichever wait it comes."""
    inner, provider = under_deadlines(*turn)
    task = asyncio.create_task(ask(provider))
    await asyncio.sleep(1)
    assert inner.open == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert inner.open == 0
    assert now() == 1.0


async def test_a_cancel_in_the_moment_of_the_deadline_is_a_cancel() -> None:
    """When both come at once, the caller's task still ends as cancelled."""
    inner, provider = under_deadlines(says("One"), HANG)
    task = asyncio.create_task(ask(provider))
    asyncio.get_running_loop().call_at(5.0, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert now() == 5.0
    assert inner.open == 0


async def test_a_finished_answer_is_not_kept() -> None:
    """No timer holds on to an answer, and its text, until a deadline that no longer matters."""
    _, provider = under_deadlines(says("One"))
    async with provider.stream(QUESTION) as answer:
        kept = weakref.ref(answer)
        del answer
    gc.collect()
    assert kept() is None
