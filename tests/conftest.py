"""The template under test, and which worker takes which test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from interpreters import interpreter
from projects import UV, copy_template, render, run
from variants import everything, load_variants

if TYPE_CHECKING:
    from pathlib import Path

    from xdist.remote import Producer

EXPENSIVE = "test_variants.py"
SHARED_CACHES = {
    variant.name: f"py{variant.python}-{variant.kind}"
    for variant in load_variants()
    if variant.name != "default"
}
LONGEST = ("unrendered", "default", *dict.fromkeys(SHARED_CACHES.values()))

# The workers share a machine with the variants: how long an example takes says nothing.
settings.register_profile(
    "template", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("template")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the run of every variant that can be rendered."""
    parser.addoption("--nightly", action="store_true", help="test the full product of the options")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clean copy of this checkout, one for each worker; no test writes into it."""
    return copy_template(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def everything_installed(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment with the dependencies of every feature at once.

    uv cannot read the template's pyproject.toml, but that of a project rendered without hooks.
    """
    answers = everything(on=True)
    project = render(template, tmp_path_factory.mktemp("all"), answers, hooks=False)
    run([UV, "sync", "--quiet"], project, UV_PYTHON=interpreter(str(answers["python_version"])))
    run([UV, "pip", "install", "--quiet", "pytest-xdist"], project)
    return project


def scope_of(nodeid: str) -> str:
    """Name the tests that one worker runs together: those that share a fixture or mypy's cache."""
    file, _, test = nodeid.partition("::")
    if not file.endswith(EXPENSIVE):
        return file
    if test.startswith("test_unrendered"):
        return "unrendered"
    name = test[test.index("[") + 1 : -1]
    return SHARED_CACHES.get(name, name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start with what takes longest, so that no worker is left alone with it at the end."""
    if not config.getoption("nightly"):
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]
    order = {scope: number for number, scope in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(scope_of(item.nodeid), len(order)))


class OneWorkerAScope(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Deal out the tests by scope_of: xdist's own marks for this do nothing on pytest 9.2."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneWorkerAScope:
    """Replace the scheduler of --dist."""
    return OneWorkerAScope(config, log)
