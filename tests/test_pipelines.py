"""The generated pipelines run the make targets that the generated Makefile has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from projects import render
from variants import ROOT, load_options

if TYPE_CHECKING:
    from pathlib import Path

PIPELINES = {"github": ".github/workflows/ci.yml", "gitlab": ".gitlab-ci.yml"}
STEPS = ["make check", "make test"]


def targets(makefile: Path) -> set[str]:
    """Read the names of a Makefile's phony targets."""
    lines = re.findall(r"^\.PHONY: (.*)$", makefile.read_text("utf-8"), re.MULTILINE)
    return set(" ".join(lines).split())


@pytest.mark.parametrize("ci", load_options()["ci"])
@pytest.mark.parametrize("python", load_options()["python_version"])
def test_pipeline(template: Path, tmp_path: Path, ci: str, python: str) -> None:
    """Each pipeline is YAML, runs check and test, on the Python that was chosen; none is none."""
    project = render(template, tmp_path / "out", {"ci": ci, "python_version": python})
    assert (project / ".python-version").read_text("utf-8") == f"{python}\n"
    for other in set(PIPELINES.values()) - {PIPELINES.get(ci)}:
        assert not (project / other).exists()
    if ci == "none":
        return
    pipeline: dict[str, Any] = yaml.safe_load((project / PIPELINES[ci]).read_text("utf-8"))
    if ci == "github":
        steps = pipeline["jobs"]["test"]["steps"]
        assert [step["run"] for step in steps if "run" in step] == STEPS
        assert python in [step.get("with", {}).get("python-version") for step in steps]
    else:
        assert pipeline["test"]["script"] == STEPS
        assert pipeline["image"] == f"python:{python}"
    assert {step.removeprefix("make ") for step in STEPS} <= targets(project / "Makefile")


@pytest.mark.parametrize(
    ("job", "command"),
    [("test", ".ci/run"), ("nightly", ".ci/run --nightly -k py${{ matrix.python }}")],
)
def test_the_templates_own_pipeline_runs_ci(job: str, command: str) -> None:
    """The template's workflow runs .ci/run on every Python that a project may choose."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    assert "schedule" in workflow[True]  # YAML takes the key `on` for a truth
    matrix = workflow["jobs"][job]["strategy"]["matrix"]
    assert set(matrix["python"]) == set(load_options()["python_version"])
    assert workflow["jobs"][job]["steps"][-1] == {"run": command}
    assert {"demo", "test", "check"} <= targets(ROOT / "Makefile")
