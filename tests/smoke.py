"""Start a rendered service as its user does, and ask it over a real socket.

None of the servers that it may share with others is there: not its store, its broker or its Redis.
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import demo
from projects import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from variants import Answers

QUESTION = "Does it stream?"
PACE = {"ECHO_FIRST_TOKEN_DELAY": "0", "ECHO_TOKEN_INTERVAL": "0"}
STOP_TIMEOUT = 30.0


def program(project: Path, name: str) -> Path:
    """Return a program of the project's environment."""
    return project / ".venv" / ("Scripts" if os.name == "nt" else "bin") / name


@contextmanager
def serving(project: Path, **settings: str) -> Iterator[int]:
    """Serve until the block ends, then stop by SIGTERM with exit status 0; give the port."""
    port = demo.free_port(0)
    environment = clean_environment(HOST=demo.HOST, PORT=str(port), **settings)
    log = project / "smoke.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program(project, "python"), "-m", "app"],
            cwd=project,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        demo.wait_until_ready(process, port)
        yield port
        process.terminate()
        assert process.wait(STOP_TIMEOUT) == 0
    except (AssertionError, OSError, demo.DemoError, subprocess.TimeoutExpired) as error:
        error.add_note(f"The log of the service:\n{log.read_text('utf-8', 'replace')}")
        raise
    finally:
        process.kill()
        process.wait()


def check_service(project: Path, answers: Answers) -> None:
    """Serve, stream one answer, look at the routes, stop."""
    with serving(project, **PACE) as port:
        ask(port)
        check_routes(port, answers)


def ask(port: int) -> None:
    """Stream one answer from /chat: sources, the question as tokens, usage, done."""
    body = {"messages": [{"role": "user", "content": QUESTION}], "retrieve": True}
    with demo.request(port, "POST", "/chat", body) as response:
        assert response.status == HTTPStatus.OK, response.read()
        events = list(demo.events(response))
    assert [name for name, _ in events if name != "token"] == ["sources", "usage", "done"], events
    assert sum(name == "token" for name, _ in events) > 1
    assert "".join(data["text"] for name, data in events if name == "token") == QUESTION


def check_routes(port: int, answers: Answers) -> None:
    """Compare what the service offers with what was chosen."""
    assert get(port, "/v1/models")["data"]
    paths = get(port, "/openapi.json")["paths"]
    assert {"/chat", "/v1/chat/completions", "/v1/models", "/readyz"} <= set(paths)
    assert ("/documents" in paths) is (answers["vector_store"] != "none")
    with demo.request(port, "GET", "/") as page:
        assert (page.status == HTTPStatus.OK) is answers["web_page"]


def get(port: int, path: str) -> dict[str, Any]:
    """Read JSON from the service."""
    with demo.request(port, "GET", path) as response:
        assert response.status == HTTPStatus.OK, path
        data: dict[str, Any] = json.load(response)
    return data
