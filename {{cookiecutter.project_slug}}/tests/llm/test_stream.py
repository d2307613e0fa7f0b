"""What the deadlines promise, on a virtual clock; over real sockets in test_openai."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable

import pytest

from app.llm.base import BrokenStreamError, Chunk, ProviderTimeoutError
from app.llm.router import Retry, Router
from app.llm.stream import Deadlines

from . import (
    FINISH,
    QUESTION,
    ROLE,
    ScriptedProvider,
    Step,
    ask,
    ask_until_error,
    text_chunk,
    text_of,
)

DEADLINES = Deadlines(first_token=10, idle=5, total=60)
HANG = 1000.0
PING = Chunk(data=b"ping")
ONE, TWO = text_chunk("One"), text_chunk("Two")


def now() -> float:
    """Return the virtual time in seconds; a test starts at 0."""
    return asyncio.get_running_loop().time()


def under_deadlines(
    *script: Step, deadlines: Deadlines = DEADLINES
) -> tuple[ScriptedProvider, Router]:
    """Make a provider for one call, and the same under deadlines."""
    provider = ScriptedProvider(script)
    retry = Retry(attempts=1)
    return provider, Router([provider], models={"one": "m"}, deadlines=deadlines, retry=retry)


async def test_an_answer_in_time_is_complete() -> None:
    """Every chunk arrives once and in order, those before the first token included."""
    _, provider = under_deadlines(3.0, ROLE, 6.9, ONE, 4.9, TWO, 4.9, FINISH, 4.9)
    assert await ask(provider) == [ROLE, ONE, TWO, FINISH]


async def test_the_stream_opens_with_the_first_token() -> None:
    """Opening returns with the first content: until then the caller can still choose."""
    _, provider = under_deadlines(1.0, ROLE, 2.0, ONE, 4.0, TWO)
    async with provider.stream(QUESTION) as answer:
        assert now() == 3.0
        assert await anext(answer) == [ROLE, ONE]
        assert now() == 3.0


@pytest.mark.parametrize(
    ("script", "deadlines", "stage", "at", "text"),
    [
        ([HANG], DEADLINES, "first_token", 10, ""),
        ([ROLE, HANG], DEADLINES, "first_token", 10, ""),
        ([ROLE, 9.0, PING, 9.0, ROLE, HANG], DEADLINES, "first_token", 28, ""),
        ([9.0, PING] * 9, DEADLINES, "total", 60, ""),
        ([HANG], Deadlines(first_token=10, idle=5, total=2), "total", 2, ""),
        ([9.0, ONE, 4.0, TWO, HANG], DEADLINES, "idle", 18, "OneTwo"),
        ([4.0, ONE] * 100, DEADLINES, "total", 60, "One" * 14),
    ],
)
async def test_each_stage_has_its_deadline(
    script: list[Step], deadlines: Deadlines, stage: str, at: float, text: str
) -> None:
    """The error names stage and limit, the text before it is delivered, the stream is closed.

    The task is not left cancelled: a TaskGroup would end by that.
    """
    inner, provider = under_deadlines(*script, deadlines=deadlines)
    chunks, error = await ask_until_error(provider)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert (text_of(chunks), now()) == (text, at)
    assert isinstance(error, ProviderTimeoutError)
    assert error.stage == stage
    limit = getattr(deadlines, stage)
    assert str(error) == f"one passed the {stage} deadline of {limit} s"
    assert inner.open == 0


async def test_the_callers_own_time_is_not_silence() -> None:
    """Only waiting for a chunk counts as idle, not a slow reader's time."""
    _, provider = under_deadlines(ONE, 1.0, TWO, 1.0, FINISH)
    async with provider.stream(QUESTION) as answer:
        async for _ in answer:
            await asyncio.sleep(15)


async def test_the_callers_own_time_counts_in_the_total() -> None:
    """An answer that is not whole by then is over, also if its reader took the time."""
    _, provider = under_deadlines(ONE, TWO)
    async with provider.stream(QUESTION) as answer:
        await anext(answer)
        await asyncio.sleep(61)
        with pytest.raises(ProviderTimeoutError, match="total deadline of 60 s"):
            await anext(answer)


@pytest.mark.parametrize("script", [[], [1.0], [ROLE]])
async def test_an_empty_answer_is_an_answer(script: list[Step]) -> None:
    """A stream that ends without content ends here too, at once and without an error."""
    _, provider = under_deadlines(*script)
    assert text_of(await ask(provider)) == ""
    assert now() <= 1.0


@pytest.mark.parametrize("script", [[], [1.0], [ROLE], [ONE], [ONE, 1.0]])
async def test_the_providers_own_errors_pass(script: list[Step]) -> None:
    """An error of the provider, before or after the first token, passes and closes the stream."""
    broken = BrokenStreamError("broken")
    inner, provider = under_deadlines(*script, broken)
    assert (await ask_until_error(provider))[1] is broken
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
    call: Callable[[Router], Awaitable[object]], seconds: float
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
    inner, provider = under_deadlines(ONE, TWO)
    async with provider.stream(QUESTION) as answer:
        async for _ in answer:
            break
        assert inner.open == 1
    assert inner.open == 0
    assert [_ async for _ in answer] == []


@pytest.mark.parametrize(
    ("script", "at"), [([HANG], 1), ([ROLE, HANG], 1), ([ONE, HANG], 1), ([ONE, HANG], 5)]
)
async def test_a_cancel_is_not_swallowed(script: list[Step], at: float) -> None:
    """In each wait, also at the very moment of the idle deadline, a cancelled task is cancelled."""
    inner, provider = under_deadlines(*script)
    task = asyncio.create_task(ask(provider))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_at(at, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert inner.open == 0
    assert now() == at


async def test_a_finished_answer_is_not_kept() -> None:
    """No timer keeps an answer, and its text, until a deadline that no longer matters."""
    _, provider = under_deadlines(ONE)
    async with provider.stream(QUESTION) as answer:
        kept = weakref.ref(answer)
        del answer
    gc.collect()
    assert kept() is None
