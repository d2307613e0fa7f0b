"""How an answer over a real socket ends: whole, cut, too late, or because the caller left."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from app.llm.base import BrokenStreamError, Provider, ProviderTimeoutError
from app.llm.deadlines import DeadlineProvider, Deadlines
from app.llm.openai import OpenAIProvider
from app.llm.router import Retry, Router
from tests.upstream import Action, FakeUpstream, Script

from .asking import QUESTION, ask, ask_until_error, text_of

EVENTS = 9  # of the default script: role, five tokens, finish, usage, end mark
PHASES = {
    "before the headers": Script(before_headers=Action.HOLD),
    "before the first event": Script(before_event={0: Action.HOLD}),
    "before the first token": Script(before_event={1: Action.HOLD}),
    "in mid-stream": Script(before_event={3: Action.HOLD}),
    "in an event": Script(at_byte={600: Action.HOLD}),
    "before the end mark": Script(before_event={-1: Action.HOLD}),
    "in an error body": Script(status=500, at_byte={10: Action.HOLD}),
}
IN_EVERY_PHASE = pytest.mark.parametrize("script", PHASES.values(), ids=PHASES.keys())


@pytest.mark.parametrize("action", [Action.CUT, Action.RESET, Action.END])
@pytest.mark.parametrize("event", range(EVENTS))
async def test_an_answer_without_its_end_mark_is_broken(
    openai: OpenAIProvider, upstream: FakeUpstream, action: Action, event: int
) -> None:
    """Wherever connection or response end before `[DONE]`, it is no success and no hang."""
    upstream.script = Script(before_event={event: action})
    chunks, error = await ask_until_error(openai)
    assert type(error) is BrokenStreamError
    assert Script().text.startswith(text_of(chunks))


@pytest.mark.parametrize("at", [1, 299, 300, 301, 302, 700, 1500, 2000])
async def test_a_cut_within_an_event_is_broken(
    openai: OpenAIProvider, upstream: FakeUpstream, at: int
) -> None:
    """Half an event is not an event."""
    upstream.script = Script(at_byte={at: Action.CUT})
    _, error = await ask_until_error(openai)
    assert type(error) is BrokenStreamError


async def test_finished_answers_leave_their_connection_to_the_next(
    openai: OpenAIProvider, upstream: FakeUpstream
) -> None:
    """Streams, plain answers and errors one after the other take a single connection."""
    body_ends_after_end_mark = Script(before_event={EVENTS: 0.01})
    upstream.queue.extend([Script(), body_ends_after_end_mark, Script(status=429)])
    for _ in range(3):
        await ask_until_error(openai)
    await openai.complete(QUESTION)
    await ask(openai)
    assert upstream.counts.completed == 5
    assert upstream.counts.connections == 1


async def test_an_answer_is_whole_with_its_end_mark(
    openai: OpenAIProvider, upstream: FakeUpstream
) -> None:
    """A server that never ends the body after `[DONE]` costs its connection, not the answer."""
    upstream.script = Script(before_event={EVENTS: Action.HOLD})
    async with asyncio.timeout(5):
        assert text_of(await ask(openai)) == Script().text
    await upstream.wait_aborted(1)


async def test_leaving_early_closes_the_providers_request(
    openai: OpenAIProvider, upstream: FakeUpstream
) -> None:
    """A caller that has had enough ends the request at the provider; the next call works."""
    upstream.script = Script(before_event={3: Action.HOLD})
    async with openai.stream(QUESTION) as answer:
        await anext(answer)
        assert upstream.counts.live == 1
    await upstream.wait_aborted(1)
    assert [_ async for _ in answer] == []
    upstream.script = Script()
    assert text_of(await ask(openai)) == Script().text
    assert upstream.counts.live == 0


async def cancelled(call: Awaitable[object], upstream: FakeUpstream) -> None:
    """Cancel a call that the upstream is answering, and see it end as cancelled."""
    task = asyncio.ensure_future(call)
    await upstream.wait_held(1)
    for _ in range(20):  # turns of the loop in which the client reads what was sent
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@IN_EVERY_PHASE
async def test_cancelling_a_stream_closes_the_providers_request(
    openai: OpenAIProvider, upstream: FakeUpstream, script: Script
) -> None:
    """In whichever phase the caller is cancelled, the provider's request ends with it."""
    upstream.script = script
    await cancelled(ask(openai), upstream)
    await upstream.wait_aborted(1)
    await upstream.wait_until(lambda counts: counts.open_connections == 0)


@pytest.mark.parametrize("call", [OpenAIProvider.complete, OpenAIProvider.embed])
@pytest.mark.parametrize("script", [PHASES["before the headers"], Script(at_byte={9: Action.HOLD})])
async def test_cancelling_a_plain_call_closes_the_providers_request(
    openai: OpenAIProvider,
    upstream: FakeUpstream,
    script: Script,
    call: Callable[[OpenAIProvider, dict[str, object]], Awaitable[object]],
) -> None:
    """A plain request is not left behind either."""
    upstream.script = script
    await cancelled(call(openai, {**QUESTION, "input": "x"}), upstream)
    await upstream.wait_aborted(1)


@IN_EVERY_PHASE
async def test_a_silent_provider_is_left_at_the_deadline(
    openai: OpenAIProvider, upstream: FakeUpstream, script: Script
) -> None:
    """Silence in any phase ends as a timeout, and the provider's request is closed."""
    upstream.script = script
    impatient = DeadlineProvider(openai, Deadlines(first_token=0.05, idle=0.05, total=5))
    chunks, error = await ask_until_error(impatient)
    assert isinstance(error, ProviderTimeoutError)
    assert error.stage == ("idle" if any(chunk.has_content for chunk in chunks) else "first_token")
    # Not: one is aborted. On a stalled machine the deadline comes before the request does.
    await upstream.wait_until(lambda counts: counts.live == counts.open_connections == 0)


async def test_a_retry_goes_out_after_the_advised_wait(
    openai: OpenAIProvider, upstream: FakeUpstream
) -> None:
    """A 429 with its advice is followed by a second request, whose answer is the answer."""
    upstream.queue.append(Script(status=429, headers={"retry-after-ms": "1"}))
    patient = DeadlineProvider(openai, Deadlines(first_token=5, idle=5, total=5))
    provider = Router([patient], models={}, retry=Retry(first_wait=60))
    assert text_of(await ask(provider)) == Script().text
    assert upstream.counts.received == 2


async def test_works_on_httpx_own_transport(upstream: FakeUpstream) -> None:
    """The adapter is not tied to one transport: whole, cut and abandoned end the same."""
    async with httpx.AsyncClient() as client:
        provider: Provider = OpenAIProvider(client, base_url=upstream.base_url)
        assert text_of(await ask(provider)) == Script().text
        upstream.script = Script(before_event={3: Action.CUT})
        assert type((await ask_until_error(provider))[1]) is BrokenStreamError
        upstream.script = Script(before_event={3: Action.HOLD})
        await cancelled(ask(provider), upstream)
        await upstream.wait_aborted(1)
