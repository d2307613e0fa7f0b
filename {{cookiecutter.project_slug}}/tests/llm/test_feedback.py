"""What the ceiling is told of a provider's load, and what it makes of it in the service."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from app.llm.base import (
    BrokenStreamError,
    Provider,
    ProviderAuthenticationError,
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from app.llm.deadlines import DeadlineProvider, Deadlines
from app.llm.feedback import FeedbackProvider, SharedCeiling
from tests.service import QUESTION as ASKED
from tests.service import RunningService, at_upstream, eventually, serve
from tests.upstream import Action, FakeUpstream, Script

from .asking import FINISH, QUESTION, ScriptedProvider, Step, ask, ask_until_error, says

OVERLOADS: list[ProviderError] = [
    ProviderRateLimitedError("429", retry_after=7),
    ProviderOverloadedError("503 or 529"),
    ProviderTimeoutError("too slow", stage="first_token"),
]
SAYS_NOTHING: list[ProviderError] = [
    ProviderTimeoutError("too slow", stage="connect"),
    ProviderTimeoutError("too slow", stage="idle"),
    ProviderTimeoutError("too slow", stage="total"),
    ProviderAuthenticationError("401"),
    ProviderRejectedError("400"),
    ProviderUnavailableError("500"),
    BrokenStreamError("cut"),
]
CALLS: list[Callable[[Provider], Awaitable[object]]] = [
    ask,
    lambda provider: provider.complete(QUESTION),
    lambda provider: provider.embed(QUESTION),
]

every_call = pytest.mark.parametrize("call", CALLS, ids=["stream", "complete", "embed"])


class Heard:
    """A ceiling that notes what it is told: None for a served call, else the advice."""

    def __init__(self) -> None:
        self.served = 0
        self.overloads: list[float | None] = []
        self.started: list[float] = []

    def on_success(self, started_at: float) -> None:
        """Note a served call."""
        self.served += 1
        self.started.append(started_at)

    def on_overload(self, started_at: float, retry_after: float | None) -> None:
        """Note a refused one."""
        self.overloads.append(retry_after)
        self.started.append(started_at)


@every_call
@pytest.mark.parametrize("error", OVERLOADS, ids=str)
async def test_overload_is_told(
    call: Callable[[Provider], Awaitable[object]], error: ProviderError
) -> None:
    """The provider's 429, 503 and 529 and a late first token are overload, with its advice."""
    heard = Heard()
    with pytest.raises(type(error)):
        await call(FeedbackProvider(ScriptedProvider([error]), heard))
    assert (heard.overloads, heard.served) == ([error.retry_after], 0)


@every_call
@pytest.mark.parametrize("error", SAYS_NOTHING, ids=str)
async def test_other_failures_say_nothing(
    call: Callable[[Provider], Awaitable[object]], error: ProviderError
) -> None:
    """A bad request, a broken stream or another deadline is neither load nor proof of service."""
    heard = Heard()
    with pytest.raises(type(error)):
        await call(FeedbackProvider(ScriptedProvider([error]), heard))
    assert (heard.overloads, heard.served) == ([], 0)


@every_call
async def test_served_call_is_told(call: Callable[[Provider], Awaitable[object]]) -> None:
    """A call that was served is told once, with the time at which it began."""
    heard, loop = Heard(), asyncio.get_running_loop()
    before = loop.time()
    await call(FeedbackProvider(ScriptedProvider([0.02, says("a"), FINISH]), heard))
    assert (heard.overloads, heard.served) == ([], 1)
    assert before <= heard.started[0] <= loop.time() - 0.01


async def test_stream_is_served_once_it_is_open() -> None:
    """What becomes of a stream after its first token says nothing, also not an overload."""
    heard = Heard()
    turn: list[Step] = [says("a"), ProviderOverloadedError("late")]
    provider = DeadlineProvider(ScriptedProvider(turn), Deadlines(9, 9, 9))
    async with FeedbackProvider(provider, heard).stream(QUESTION) as chunks:
        assert heard.served == 1
        with suppress(ProviderOverloadedError):
            _ = [batch async for batch in chunks]
    assert (heard.overloads, heard.served) == ([], 1)


async def test_late_first_token_is_overload_by_deadline() -> None:
    """The deadline for the first token, as the service sets it, is heard as overload."""
    heard = Heard()
    slow = DeadlineProvider(ScriptedProvider([60.0]), Deadlines(0.01, 9, 9))
    _, error = await ask_until_error(FeedbackProvider(slow, heard))
    assert isinstance(error, ProviderTimeoutError)
    assert (heard.overloads, heard.served) == ([None], 0)


@pytest.mark.parametrize(("is_last", "told"), [(False, []), (True, [None])])
async def test_of_several_the_last_lowers_and_none_pauses(
    is_last: bool, told: list[float | None]
) -> None:
    """A shared ceiling hears of overload from the last alone, without advice; of service always."""
    heard = Heard()
    turns: list[list[Step]] = [[OVERLOADS[0]], [says("a"), FINISH]]
    provider = FeedbackProvider(ScriptedProvider(*turns), SharedCeiling(heard, is_last=is_last))
    await ask_until_error(provider)
    await ask(provider)
    assert (heard.overloads, heard.served) == (told, 1)


@every_call
async def test_cancel_says_nothing(call: Callable[[Provider], Awaitable[object]]) -> None:
    """A client that leaves before it is served is neither."""
    heard, provider = Heard(), ScriptedProvider([60.0])
    timely = DeadlineProvider(provider, Deadlines(90, 90, 90))
    calling = asyncio.ensure_future(call(FeedbackProvider(timely, heard)))
    await eventually(lambda: provider.open == 1)
    calling.cancel()
    await asyncio.wait([calling])
    assert calling.cancelled()
    assert (heard.overloads, heard.served) == ([], 0)


def adaptive(upstream: FakeUpstream, **values: Any) -> dict[str, Any]:
    """Return settings for a service at this upstream whose ceiling adapts."""
    return at_upstream(upstream, llm_max_concurrency=10, **{"llm_adaptive": True, **values})


async def chat(service: RunningService) -> int:
    """Ask; return the status."""
    return (await service.client.post("/chat", json=ASKED)).status_code


@pytest.mark.parametrize("status", [429, 503, 529])
async def test_overload_lowers_the_ceiling(upstream: FakeUpstream, status: int) -> None:
    """A provider that has too much to do gets fewer calls at once from then on."""
    upstream.script = Script(status=status, headers={"retry-after": "9"})
    async with serve(**adaptive(upstream)) as service:
        await chat(service)
        assert 1 <= service.services.limiter.limit < 10


async def test_ceiling_stays_where_it_is_not_adaptive(upstream: FakeUpstream) -> None:
    """With LLM_ADAPTIVE off the ceiling is what it was set to."""
    upstream.script = Script(status=529, headers={"retry-after-ms": "0"})
    async with serve(**adaptive(upstream, llm_adaptive=False)) as service:
        assert await chat(service) == 503
        assert service.services.limiter.limit == 10


@pytest.mark.parametrize("status", [400, 401, 404])
async def test_bad_requests_leave_the_ceiling(upstream: FakeUpstream, status: int) -> None:
    """The provider's refusal of the request itself says nothing of its load."""
    upstream.script = Script(status=status)
    async with serve(**adaptive(upstream)) as service:
        await chat(service)
        assert service.services.limiter.limit == 10


async def test_clients_that_leave_do_not_lower_the_ceiling(upstream: FakeUpstream) -> None:
    """However many clients hang up before their first token, the ceiling stays."""
    upstream.script = Script(before_headers=Action.HOLD)
    async with serve(**adaptive(upstream)) as service:
        asking = [asyncio.create_task(chat(service)) for _ in range(5)]
        await upstream.wait_held(5)
        for task in asking:
            task.cancel()
        await upstream.wait_aborted(5)
        await service.idle()
        assert service.services.limiter.limit == 10


async def test_providers_advice_is_a_pause(upstream: FakeUpstream) -> None:
    """The provider's Retry-After holds back the next call; who cannot wait so long is told."""
    upstream.script = Script(status=429, headers={"retry-after": "40"})
    async with serve(**adaptive(upstream)) as service:
        assert await chat(service) == 429
        shed = await service.client.post("/chat", json=ASKED)
    assert shed.status_code == 503
    assert 35 <= int(shed.headers["retry-after"]) <= 40
    assert upstream.counts.received == 1
