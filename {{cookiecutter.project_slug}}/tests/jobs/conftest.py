"""The tests of this folder run on a virtual clock; those with a broker on a real one."""

import asyncio
from collections.abc import Callable, Mapping

from tests.concurrency.virtual_time import VirtualTimeLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Choose the event loop."""
    return {"virtual": VirtualTimeLoop}
