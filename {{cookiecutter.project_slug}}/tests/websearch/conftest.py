"""The event loops of this folder."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
from stamina.instrumentation import get_on_retry_hooks

from tests.concurrency.virtual_time import VirtualTimeLoop

get_on_retry_hooks()  # imports structlog and prometheus_client, which blocks; a service has done so


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on a virtual clock what needs no socket."""
    virtual = item.path.stem == "test_serppost"
    return {"loop": VirtualTimeLoop if virtual else asyncio.new_event_loop}
