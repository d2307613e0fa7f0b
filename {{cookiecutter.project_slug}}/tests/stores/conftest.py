"""Every store there is, each on a database of the test's own."""

from collections.abc import AsyncIterator

import pytest

from app.stores.protocol import DocumentStore
from tests.stores.contract import OpenStore


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[DocumentStore]:
    """Provide an open store on an empty database."""
    async with open_store() as store:
        yield store
