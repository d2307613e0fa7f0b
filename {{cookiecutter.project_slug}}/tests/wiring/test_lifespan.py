"""The composition root: what is opened is closed, in reverse order, whatever fails."""

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeVar

import httpx
import pytest

from app.lifespan import Services, open_services
from app.settings import Settings
from app.wiring.providers import BUILDERS
from tests.service import at_upstream, serve
from tests.upstream import Action, FakeUpstream, Script

Opened = TypeVar("Opened")


class RecordingStack(AsyncExitStack):
    """A stack that remembers what it opened, and in which order it closed that."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[object] = []
        self.closed: list[object] = []

    async def enter_async_context(self, cm: AbstractAsyncContextManager[Opened, Any]) -> Opened:
        """Open, and remember."""
        opened = await super().enter_async_context(cm)
        self.opened.append(cm)
        self.callback(self.closed.append, cm)
        return opened


def settings(**values: Any) -> Settings:
    """Return settings that come from nowhere else."""
    return Settings(**{"_env_file": None, **values})


async def test_parts_are_as_the_settings_say() -> None:
    """The parts are built from the settings, and are what requests see as their state."""
    async with serve(llm_max_concurrency=3, drain_timeout=7) as service:
        services = service.services
    assert isinstance(services, Services)
    assert services.limiter.limit == 3
    assert services.settings.drain_timeout == 7


async def test_closes_in_reverse_order() -> None:
    """What was opened last is closed first, and the HTTP client last of all."""
    async with RecordingStack() as stack:
        services = await open_services(settings(), stack)
        assert not services.http.is_closed
    assert stack.opened[0] is services.http
    assert len(stack.opened) > 1
    assert stack.closed == stack.opened[::-1]
    assert services.http.is_closed


async def test_closes_what_was_open_when_a_later_part_fails() -> None:
    """A start that fails half-way leaves nothing open, and says why it failed."""
    unheard_of = settings().model_copy(update={"llm_provider": ("nobody",)})
    stack = RecordingStack()
    with pytest.raises(KeyError, match="nobody"):
        async with stack:
            await open_services(unheard_of, stack)
    client = stack.opened[0]
    assert isinstance(client, httpx.AsyncClient)
    assert client.is_closed


async def test_an_adapter_has_the_name_that_it_is_chosen_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its model is looked up by that name: another one would fail later, or ask another model."""
    monkeypatch.setitem(BUILDERS, "openai", BUILDERS["echo"])
    chosen = settings(llm_provider="echo,openai", openai_api_key="sk")
    with pytest.raises(ValueError, match=r"LLM_PROVIDER=openai .* 'echo'"):
        async with AsyncExitStack() as stack:
            await open_services(chosen, stack)


async def test_services_are_independent(upstream: FakeUpstream) -> None:
    """Two services in one process share nothing: neither slots nor state."""
    upstream.script = Script(before_event={2: Action.HOLD})
    ceiling = at_upstream(upstream, llm_max_concurrency=1, llm_max_queue=0)
    async with serve(**ceiling) as one, serve(**ceiling) as other, one.stream() as first:
        await anext(first)
        async with other.stream() as second:
            await anext(second)
            assert (one.in_flight, other.in_flight) == (1, 1)


async def test_open_answers_end_before_the_parts_close(upstream: FakeUpstream) -> None:
    """When the server stops, an answer that is open still has the parts that it needs."""
    upstream.script = Script(tokens=2, before_event={2: Action.HOLD})
    async with serve(**at_upstream(upstream)) as service, service.stream() as events:
        await anext(events)
        service.server.stopping.set()
        await asyncio.sleep(0)
        upstream.release()
        assert [event.name async for event in events][-1] == "done"
