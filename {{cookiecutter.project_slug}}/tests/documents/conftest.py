"""An empty catalogue, on each database that it may be in."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.documents.catalogue import Catalogue
from tests.documents.parts import MODEL


@pytest.fixture
async def catalogue_url(engine: Any, server: Any, tmp_path: Path) -> AsyncIterator[str]:
    """Provide an empty database; beside Qdrant, in SQLite."""
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
