"""Every store there is, each on a database of the test's own."""

from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest

from app.stores.protocol import DocumentStore
from tests.stores.contract import Engine, OpenStore

ENGINES = sorted(path.stem.removeprefix("on_") for path in Path(__file__).parent.glob("on_*.py"))


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
async def store(open_store: OpenStore) -> AsyncIterator[DocumentStore]:
    """Provide an open store on an empty database."""
    async with open_store() as store:
        yield store
