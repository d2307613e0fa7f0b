"""The engines under test: one server a run, one empty database a test.

An engine is a module `on_NAME.py` in this folder, found by its name, so removing a store is
deleting its files. It offers:

- ATOMIC: whether a search during `replace` sees the old passages or the new ones, never a mixture
- STEMS: whether inflected English words are found, and words of most passages do not count
- SERVED: whether a whole service can reach the databases
- BAD_ADDRESS: the address of no database of this kind, with a password if it takes one
- server(folder): a context manager that runs what all tests share
- database(server, folder): an async one that provides an empty database, by its address
- nowhere(folder): the address, with a password, of a database that cannot be reached
- store(server, address): a store
"""

from collections.abc import AsyncIterator, Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from app.stores.base import PassageStore

ENGINES = sorted(path.stem.removeprefix("on_") for path in Path(__file__).parent.glob("on_*.py"))
OWN = "pgvector"  # optional: vector_store=pgvector
OWN = "qdrant"  # optional: vector_store=qdrant
OWN = "sqlite"  # optional: vector_store=sqlite
on_its_own_store = pytest.mark.parametrize("engine", [OWN], indirect=True)
"""For tests of the whole service: on the store that it was made with."""

on_each_database = pytest.mark.parametrize(
    "engine", [name for name in ENGINES if name != "qdrant"] or ENGINES, indirect=True
)
"""For tests of the catalogue, which is in SQL."""

OpenStore = Callable[[], PassageStore]
"""Makes a store on the test's own database, any number of times; `async with` opens it."""


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Any:
    """Provide the engine under test."""
    return import_module(f"tests.stores.on_{request.param}")


@pytest.fixture(scope="session")
def server(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Run the engine's server, if it has one, until its last test is done."""
    with engine.server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
async def store_address(engine: Any, server: Any, tmp_path: Path) -> AsyncIterator[str]:
    """Provide an empty database to one test of the whole service: its VECTOR_STORE_URL."""
    if not engine.SERVED:
        pytest.skip("needs a server, at QDRANT_URL")
    async with engine.database(server, tmp_path) as address:
        yield address


@pytest.fixture
async def open_store(engine: Any, server: Any, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Provide an empty database, as a function that makes stores on it."""
    async with engine.database(server, tmp_path) as address:
        yield lambda: engine.store(server, address)
