"""Projects with environments of their own, put through the commands that a user runs.

- The un-rendered template, every option at once: the tools, and the suite in parallel, except for
  the tests of IN_VARIANTS.
- The default render: `make check`, a smoke test of the service, and `make test`, whole.
- Every other variant: `make check`, the smoke test, and the tests that OWN_TESTS gives it.
- With --nightly: every variant of the full product, each with its whole suite.

List them: make test ARGS="--collect-only -q". Run one: make test ARGS="-k NAME".
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from interpreters import interpreter
from post_gen_project import holds
from projects import UV, copy_template, render, run, run_pytest
from smoke import check_service, program
from variants import SERVICE, Variant, defaults, load_all_variants, load_variants

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = 'Ünï "Çhat" \\ 👩‍💻'
TOOLS = ("ruff check .", "ruff format --check .", "mypy", "lint-imports")
SUITE = ("tests",)
OWN_TESTS = {
    "vector_store=none and ingestion_client=false": SUITE,
    "vector_store=pgvector and job_queue=none": (
        *("tests/stores", "tests/documents", "tests/api/documents", "tests/test_whole.py"),
    ),
    "vector_store=qdrant": ("tests/stores",),
    "vector_store=sqlite and job_queue=celery": ("tests/documents/on_rabbitmq",),
    "vector_store=sqlite and job_queue=taskiq": ("tests/documents/on_rabbitmq",),
    "redis_rate_limiter and python_version=3.11": ("tests/on_redis",),
    "python_version=3.12": ("tests/llm",),
}
"""What is run in one of the variants that meet the condition, the last one; the conditions are
written as in the post-generation hook. Python 3.11 has the un-rendered suite."""
IN_VARIANTS = ("tests/documents/on_rabbitmq", "tests/on_redis")
"""Tests on servers, which the variants above run and the un-rendered suite does not repeat."""


def own_tests(variant: Variant) -> set[str]:
    """Choose the tests that this variant runs, as paths in the project."""
    if variant.answers == defaults():
        return set(SUITE)
    return {
        path
        for condition, paths in OWN_TESTS.items()
        if variant == [v for v in load_variants() if holds(condition, v.answers)][-1]
        for path in paths
    }


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the tests of variants those of the gate, or with --nightly the full product."""
    if "variant" in metafunc.fixturenames:
        nightly = metafunc.config.getoption("nightly")
        variants = load_all_variants() if nightly else load_variants()
        ids = [variant.name for variant in variants]
        metafunc.parametrize("variant", variants, ids=ids, scope="module")


@pytest.fixture(scope="module")
def project(
    variant: Variant, template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Render a variant and make its environment."""
    directory = tmp_path_factory.mktemp("variant")
    project = render(template, directory, {"project_name": NAME, **variant.answers})
    run([UV, "sync", "--quiet"], project, UV_PYTHON=interpreter(variant.python))
    yield project
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def mypy_caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where mypy keeps what it learned in one variant for the next one."""
    return tmp_path_factory.mktemp("mypy")


def test_check(variant: Variant, project: Path, mypy_caches: Path) -> None:
    """A user who chooses this passes `make check`."""
    environment = {"UV": UV, "UV_PYTHON": interpreter(variant.python)}
    cache = mypy_caches / variant.kind  # mypy adds the version of Python
    run(["make", "check"], project, MYPY_CACHE_DIR=str(cache), **environment)


def test_service(variant: Variant, project: Path, request: pytest.FixtureRequest) -> None:
    """The service starts, answers and stops; the tests that the variant is here for pass."""
    check_service(project, variant.answers)
    paths = set(SUITE) if request.config.getoption("nightly") else own_tests(variant)
    if paths:
        environment = {"UV": UV, "UV_PYTHON": interpreter(variant.python)}
        run_pytest(["make", "test", f"ARGS={' '.join(sorted(paths))}"], project, **environment)


@pytest.fixture(scope="module")
def unrendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the service as it is in a copy of the template."""
    return copy_template(tmp_path_factory.mktemp("unrendered")) / SERVICE


@pytest.mark.parametrize("tool", TOOLS)
def test_unrendered_check(tool: str, everything_installed: Path, unrendered: Path) -> None:
    """The template itself is a project that its own tools accept."""
    name, *arguments = tool.split()
    run([program(everything_installed, name), *arguments], unrendered)


def test_unrendered_suite(everything_installed: Path, unrendered: Path) -> None:
    """With every feature in, the template passes its tests."""
    others = [f"--ignore={path}" for path in IN_VARIANTS]
    run_pytest([program(everything_installed, "pytest"), "--numprocesses=2", *others], unrendered)
