"""The whole service on its own store: what is resumed, and what keeps it from starting."""

from pathlib import Path

import pytest

from app.documents.catalogue import Document
from app.embeddings.hashing import HashingEmbedder
from app.settings import Settings
from app.wiring.documents import build_catalogue
from tests.documents.parts import until_ready
from tests.process import SERVE, run
from tests.service import serve
from tests.stores.databases import on_its_own_store

pytestmark = on_its_own_store
TEXT = Document(content=b"A zebra has black and white stripes.")


def settings_of(store_address: str, **values: object) -> Settings:
    """Return settings with this store."""
    return Settings(**{"_env_file": None, "vector_store_url": store_address, **values})  # type: ignore[arg-type]


async def test_unfinished_documents_are_resumed(store_address: str) -> None:
    """The service processes what another process queued."""
    async with build_catalogue(settings_of(store_address)) as catalogue:
        document, _ = await catalogue.submit(TEXT)
        async with serve(vector_store_url=store_address):
            await until_ready(catalogue, [document.id])


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({"EMBEDDING_MODEL": "model-of-now", "OPENAI_API_KEY": "sk"}, HashingEmbedder.model),
        ({"VECTOR_STORE_URL": "nonsense"}, "VECTOR_STORE_URL"),
        ({"DATABASE_URL": "mysql://host/name"}, "DATABASE_URL"),
    ],
    ids=["another model", "bad store", "bad database"],
)
async def test_does_not_start(
    store_address: str, tmp_path: Path, variables: dict[str, str], names: str
) -> None:
    """Documents of another embedding model or a bad address end the start with one clear line."""
    async with build_catalogue(settings_of(store_address)) as catalogue:
        await catalogue.submit(TEXT)
    code, _, error = await run(tmp_path, *SERVE, **{"VECTOR_STORE_URL": store_address, **variables})
    assert (code, len(error.splitlines())) == (1, 1), error
    assert names in error
