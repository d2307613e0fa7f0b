"""The composition root: what is opened is closed, in reverse order, whatever fails."""

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeVar

import httpx
import pytest

from app.lifespan import open_services
from app.llm.echo import EchoProvider
from app.settings import load_settings
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


async def test_closes_in_reverse_order() -> None:
    """What was opened last is closed first, and the HTTP client last of all."""
    async with RecordingStack() as stack:
        services = await open_services(load_settings(_env_file=None), stack)
        assert not services.http.is_closed
    assert stack.opened[0] is services.http
    assert len(stack.opened) > 1
    assert stack.closed == stack.opened[::-1]
    assert services.http.is_closed


async def test_failed_start_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is open closes when a later part fails: an adapter of another name than its own."""
    monkeypatch.setattr(EchoProvider, "name", "other")
    stack = RecordingStack()
    with pytest.raises(ValueError, match=r"LLM_PROVIDER=echo .* 'other'"):
        async with stack:
            await open_services(load_settings(_env_file=None), stack)
    client = stack.opened[0]
    assert isinstance(client, httpx.AsyncClient)
    assert client.is_closed


async def test_services_are_independent(upstream: FakeUpstream) -> None:
    """Two services in one process share nothing: neither slots nor state."""
    upstream.script = Script(before_event={2: Action.HOLD})
    ceiling = at_upstream(upstream, llm_max_concurrency=1, llm_max_queue=0)
    async with serve(**ceiling) as one, serve(**ceiling) as other, one.stream() as first:
        await anext(first)
        async with other.stream() as second:
            await anext(second)
            assert (one.in_flight, other.in_flight) == (1, 1)
