"""What every test runs under."""

import logging
import os
from collections.abc import AsyncIterator, Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

from app.settings import Settings
from tests.stores import databases  # optional: vector_store
from tests.upstream import FakeUpstream

engine, server = databases.engine, databases.server  # optional: vector_store
open_store = databases.open_store  # optional: vector_store
store_address = databases.store_address  # optional: vector_store

# How long an example takes says how busy the machine is: 200 ms at most would be the default.
settings.register_profile(
    "unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unhurried")

FOREIGN_PREFIXES = ("OPENAI_", "ANTHROPIC_", "UVICORN_")
FOREIGN_VARIABLES = {"WEB_CONCURRENCY", "FORCE_COLOR", "NO_COLOR"}


@pytest.fixture(autouse=True)
def nothing_blocks() -> Iterator[BlockBuster]:
    """Raise where the service blocks its event loop: sleep, file I/O, a blocking socket."""
    with blockbuster_ctx("app") as blockbuster:
        # Paths of source files in tracebacks: absolute already, so no system call is made.
        abspath = blockbuster.functions["os.path.abspath"]
        abspath.can_block_in("structlog/tracebacks.py", "extract")
        abspath.can_block_in("sqlite/pysqlite.py", "create_connect_args")  # optional: vector_store
        yield blockbuster


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own settings, keys and proxies out of the tests.

    Certificates as well: to load them takes longer than most tests, and all is plain HTTP here.
    """
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.setenv("SSL_CERT_DIR", os.devnull)
    ours = {name.upper() for name in Settings.model_fields}
    for name in os.environ:
        if (
            name.upper() in ours | FOREIGN_VARIABLES
            or name.upper().startswith(FOREIGN_PREFIXES)
            or name.lower().endswith("_proxy")
        ):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Take back what a service under test did to the process' logging."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """Provide a fake provider; set its `script` or fill its `queue`."""
    async with FakeUpstream() as upstream:
        yield upstream
