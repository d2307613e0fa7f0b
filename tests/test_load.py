"""`make load` measures a service, and fails when streams are lost."""

from __future__ import annotations

import csv
import os
import subprocess
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, ClassVar

import pytest

import demo
from interpreters import interpreter
from projects import UV, clean_environment, render, run
from smoke import serving
from variants import defaults

if TYPE_CHECKING:
    from collections.abc import Iterator


class Broken(BaseHTTPRequestHandler):
    """Answer with fixed bytes, then close the connection."""

    answer: ClassVar[bytes]

    def do_POST(self) -> None:
        """Answer whatever is asked."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.wfile.write(self.answer)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


STREAM = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
TOKEN = b'event: token\ndata: {"text": "a"}\n\n'
TIMEOUT = b'event: error\ndata: {"type": "provider_timeout", "message": "late"}\n\n'


@contextmanager
def broken_service(answer: bytes) -> Iterator[int]:
    """Serve one answer to all; give the port."""
    handler = type("Handler", (Broken,), {"answer": answer})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def load(project: Path, port: int, seconds: int) -> tuple[int, dict[str, int]]:
    """Run the target; return make's exit status and the number of requests by name."""
    environment = clean_environment(PATH=f"{Path(UV).parent}{os.pathsep}{os.environ['PATH']}")
    arguments = f"ARGS=--host http://127.0.0.1:{port} --users 8 --run-time {seconds}s"
    done = subprocess.run(
        ["make", "load", arguments], cwd=project, env=environment, capture_output=True, check=False
    )
    with (project / "load/report_stats.csv").open(encoding="utf-8") as file:
        return done.returncode, {r["Name"]: int(r["Request Count"]) for r in csv.DictReader(file)}


@pytest.fixture(scope="module")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Render the defaults."""
    return render(template, tmp_path_factory.mktemp("load"), {})


def test_report(project: Path) -> None:
    """First tokens, pauses between tokens and answers are measured; shed requests are counted."""
    python = interpreter(str(defaults()["python_version"]))
    run([UV, "sync", "--quiet", "--no-dev"], project, UV_PYTHON=python)
    settings = {"LLM_MAX_CONCURRENCY": "2", "LLM_MAX_QUEUE": "2", "LLM_QUEUE_TIMEOUT": "1"}
    with serving(project, **settings) as port:
        status, requests = load(project, port, 6)
    assert status == 0
    names = {"first token", "between tokens", "whole answer", "/chat", "/chat (shed)"}
    assert names <= {name for name, count in requests.items() if count}
    assert (project / "load/report.html").exists()


@pytest.mark.parametrize(
    "answer",
    [STREAM + TOKEN, STREAM + TOKEN + TIMEOUT, b"HTTP/1.1 502 Bad Gateway\r\n\r\n"],
    ids=["cut", "error", "502"],
)
def test_failures(project: Path, answer: bytes) -> None:
    """A stream without an end, an error that is no refusal and a 5xx but 503 fail the run."""
    with broken_service(answer) as port:
        status, _ = load(project, port, 3)
    assert status


def test_no_connection(project: Path) -> None:
    """A service that cannot be reached fails the run, and its requests are counted."""
    status, requests = load(project, demo.free_port(0), 3)
    assert status
    assert requests["/chat"]
