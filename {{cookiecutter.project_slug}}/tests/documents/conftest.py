"""An empty catalogue, on each database that it may be in."""

from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from app.documents.catalogue import Catalogue
from tests.documents.parts import MODEL
from tests.stores.databases import ENGINES


@pytest.fixture(scope="session", params=[name for name in ENGINES if name != "qdrant"] or ENGINES)
def engine(request: pytest.FixtureRequest) -> Any:
    """Provide the engine under test; beside Qdrant the catalogue is in SQLite."""
    return import_module(f"tests.stores.on_{request.param}")


@pytest.fixture
async def catalogue_url(engine: Any, server: Any, tmp_path: Path) -> AsyncIterator[str]:
    """Provide an empty database."""
    if not engine.ATOMIC:  # Qdrant
        yield f"sqlite:///{tmp_path}/folder/catalogue.db"
        return
    async with engine.database(server, tmp_path) as address:
        yield address


@pytest.fixture
async def catalogue(catalogue_url: str) -> AsyncIterator[Catalogue]:
    """Provide an empty catalogue."""
    async with Catalogue(catalogue_url, model=MODEL) as catalogue:
        yield catalogue
