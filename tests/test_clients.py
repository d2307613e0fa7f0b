"""The running service of the default render, with real clients and with a real model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import demo
from interpreters import interpreter
from projects import UV, render, run, run_pytest
from smoke import serving
from variants import defaults

CHECKS = Path(__file__).parent / "clients"
CLIENTS = (
    *("openai==3.51.0", "langchain-openai==1.7.4", "litellm==1.109.1"),
    "pydantic-ai-slim[openai]==2.68.0",
)
"""Fixed, as a new release should not fail this test; of LiteLLM some releases were malicious."""
QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false"}


def python() -> str:
    """Return the interpreter of the default render."""
    return interpreter(str(defaults()["python_version"]))


@pytest.fixture(scope="module")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Render the defaults, and install what the service needs."""
    project = render(template, tmp_path_factory.mktemp("served"), {})
    run([UV, "sync", "--quiet", "--no-dev"], project, UV_PYTHON=python())
    return project


def test_clients(project: Path, tmp_path: Path) -> None:
    """OpenAI's SDK, LangChain, LiteLLM and pydantic-ai work with the service as with OpenAI."""
    checks = shutil.copytree(CHECKS, tmp_path / "clients")
    provider = demo.free_port(0)
    packages = [f"--with={package}" for package in ("pytest", "aiohttp", *CLIENTS)]
    settings = {"LLM_PROVIDER": "openai", "LLM_ADAPTIVE": "false", "LOG_LEVEL": "WARNING"}
    with serving(project, OPENAI_BASE_URL=f"http://{demo.HOST}:{provider}/v1", **settings) as port:
        run_pytest(
            [
                *(UV, "run", "--quiet", "--isolated", "--no-project", "--python", python()),
                *(*packages, "pytest", "checks.py"),
            ],
            checks,
            SERVICE=f"http://{demo.HOST}:{port}",
            PROVIDER=str(provider),
            **QUIET,
        )


@pytest.mark.nightly
def test_model(project: Path) -> None:
    """A real model answers, streamed and plain."""
    body = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
    with demo.model(demo.MODEL) as settings, serving(project, **settings) as port:
        with demo.request(port, "POST", "/chat", body) as response:
            events = list(demo.events(response))
        with demo.request(port, "POST", "/v1/chat/completions", body) as response:
            completion = json.load(response)
    names = [name for name, _ in events]
    text = "".join(data["text"] for name, data in events if name == "token")
    assert names == [*["token"] * names.count("token"), "usage", "done"], events
    assert names.count("token") > 1
    for answer in (text, completion["choices"][0]["message"]["content"]):
        assert "Paris" in answer
    assert completion["usage"]["completion_tokens"] > 1
