"""The demo shows an answer as it comes, and says in one line why it cannot."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

import demo

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKENS = (
    b'event: token\r\ndata: {"text": "Hel"}\r\n\r\nevent: token\r\ndata: {"text": "lo"}\r\n\r\n'
)
DONE = b'event: done\r\ndata: {"finish_reason": "stop"}\r\n\r\n'


@contextmanager
def answering(status: int, body: bytes) -> Iterator[int]:
    """Serve one canned answer to every POST; give the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer((demo.HOST, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_each_event_is_there_with_its_blank_line() -> None:
    """Comments are passed over, line ends are CRLF or LF, data goes over several lines."""
    lines = [
        b": ping\n",
        b"\n",
        b"event: token\r\n",
        b'data: {"text":\r\n',
        b'data: "\xc3\xbc"}\r\n',
        b"\r\n",
        b"data:{}\n",
        b"\n",
        b"data: {}\n",
    ]
    given: list[bytes] = []

    def reading() -> Iterator[bytes]:
        for line in lines:
            given.append(line)
            yield line

    events = demo.events(reading())
    assert next(events) == ("token", {"text": "ü"})
    assert given == lines[:6]
    assert list(events) == [("message", {})]


def test_answer_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """The tokens are the output."""
    with answering(200, TOKENS + DONE) as port:
        demo.show_answer(port)
    assert capsys.readouterr().out == "Hello\n"


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (503, b"queue full", "answered 503: b'queue full'"),
        (200, TOKENS, "broke off after 2 tokens"),
        (200, DONE, "broke off after 0 tokens"),
        (200, TOKENS + b'event: error\ndata: {"type": "broken"}\n\n', "{'type': 'broken'}"),
    ],
)
def test_anything_but_a_whole_answer_fails(status: int, body: bytes, reason: str) -> None:
    """A refusal, a cut, an empty answer and an error event are failures."""
    with answering(status, body) as port, pytest.raises(demo.DemoError) as caught:
        demo.show_answer(port)
    assert reason in str(caught.value)


def test_a_taken_port_is_replaced() -> None:
    """The demo serves also where something else has its port."""
    with socket.create_server((demo.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        assert demo.free_port(port) not in {0, port}
    assert demo.free_port(port) == port


def test_a_service_that_ends_is_a_failure() -> None:
    """There is no waiting for a service that is gone."""
    failed = pytest.raises(demo.DemoError, match=r"ended before it was ready \(exit status 3\)")
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process, failed:
        demo.wait_until_ready(process, demo.free_port(0))


def test_the_service_is_rendered_for_the_python_that_is_there() -> None:
    """A demo never needs a second interpreter."""
    assert demo.python_version() in demo.SUPPORTED
