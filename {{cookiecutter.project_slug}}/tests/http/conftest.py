"""Runs the tests of the transport on asyncio's loop and on uvloop, which is that of production."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import uvloop


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
    """Choose the loops of a test."""
    both = {"uvloop": uvloop.new_event_loop} if item.path.stem == "test_transport" else {}
    return {"asyncio": asyncio.new_event_loop, **both}
