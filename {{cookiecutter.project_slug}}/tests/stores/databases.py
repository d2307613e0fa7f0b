"""Databases for tests: each engine there is, one server a run, one database a test.

The fixtures are in the tests' first conftest, so that all tests share the servers.
"""

from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest

from tests.stores.contract import Engine, OpenStore

ENGINES = sorted(path.stem.removeprefix("on_") for path in Path(__file__).parent.glob("on_*.py"))
on_its_own_store = pytest.mark.parametrize("engine", ENGINES[-1:], indirect=True)
"""For tests of the whole service: on the store that it was made with."""


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Provide the engine under test."""
    return cast("Engine", import_module(f"tests.stores.on_{request.param}"))


@pytest.fixture(scope="session")
def server(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Run the engine's server, if it has one, until its last test is done."""
    with engine.server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
async def open_store(engine: Engine, server: Any, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Provide an empty database, as a function that makes stores on it."""
    async with engine.database(server, tmp_path) as open_store:
        yield open_store


@pytest.fixture
def store_address(engine: Engine, server: Any, tmp_path: Path) -> str:
    """Provide an empty database, as the address that a service is told."""
    return engine.address(server, tmp_path)
