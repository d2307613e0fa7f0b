"""The template under test, and which worker takes which test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from projects import copy_template

if TYPE_CHECKING:
    from pathlib import Path

    from xdist.remote import Producer

EXPENSIVE = "test_variants.py"

# The workers share a machine with the variants: how long an example takes says nothing.
settings.register_profile(
    "template", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("template")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clean copy of this checkout, one for each worker; no test writes into it."""
    return copy_template(tmp_path_factory.mktemp("template"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with what takes longest, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: item.path.name != EXPENSIVE)


class OneWorkerAFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Keep a file's tests together for their fixtures, but deal out the expensive ones singly."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if file.endswith(EXPENSIVE) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneWorkerAFile:
    """Replace the scheduler of --dist."""
    return OneWorkerAFile(config, log)
