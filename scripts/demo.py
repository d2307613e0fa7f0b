"""Show the template at work: render the defaults, load documents, serve, stream one answer.

Runs inside `uv run`, on the standard library and cookiecutter. Ends with 0 after Ctrl-C, or right
after the answer where DEMO_ONCE is set; with 1 and one line if anything fails. The service is
stopped in every case. Settings of the service, such as PORT and LLM_PROVIDER, are passed on.
DEMO_MODEL=smollm2 answers by a small model that scripts/model.py serves, and not by echo.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cookiecutter.main import cookiecutter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TEMPLATE = Path(__file__).resolve().parent.parent
SCRATCH = TEMPLATE / ".demo"
HOST = "127.0.0.1"
DEFAULT_PORT = 8000
SUPPORTED = ("3.11", "3.12", "3.13")
DOCUMENTS = ("README.md",)
QUESTION = "How do I point it at a local server such as Ollama?"
SNIPPET = 70
MODEL = "smollm2"
START_TIMEOUT = 60.0
ANSWER_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0
POLL_INTERVAL = 0.1


class DemoError(Exception):
    """The demo cannot go on; the message says why, in one line."""


def python_version() -> str:
    """Choose the Python of the rendered service: this one's, so that none is downloaded."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    return running if running in SUPPORTED else SUPPORTED[-1]


def render() -> Path:
    """Render the template's defaults, in place of those of the last time."""
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir()
    return Path(
        cookiecutter(
            str(TEMPLATE),
            no_input=True,
            extra_context={"python_version": python_version()},
            output_dir=str(SCRATCH),
            default_config={"replay_dir": str(SCRATCH / "replay")},
        )
    )


def free_port(preferred: int) -> int:
    """Take the preferred TCP port, or one that is free where it is taken."""
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, os.name != "nt")
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    msg = f"no free port on {HOST}"
    raise DemoError(msg)


def uv(project: Path, *arguments: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
    """Start uv in the project."""
    command = os.environ.get("UV") or shutil.which("uv")
    if command is None:
        msg = "uv is missing: start the demo by make demo"
        raise DemoError(msg)
    environment = {"LOG_LEVEL": "WARNING", **os.environ}
    environment.pop("VIRTUAL_ENV", None)  # that of the demo itself
    return subprocess.Popen(  # noqa: S603
        [command, *arguments], cwd=project, env=environment, stdout=stdout
    )


def install(project: Path) -> None:
    """Make the service's environment; on a machine's first time this downloads it."""
    if code := uv(project, "sync", "--quiet", "--no-dev").wait():
        msg = f"uv could not install the service's dependencies (exit status {code})"
        raise DemoError(msg)


def ingest(project: Path) -> None:
    """Load the service's own documents, so that it can answer questions about itself."""
    if uv(project, "run", "--no-sync", "python", "-m", "app.ingest", *DOCUMENTS).wait():
        msg = "the documents could not be loaded"
        raise DemoError(msg)


@contextlib.contextmanager
def model(name: str) -> Iterator[dict[str, str]]:
    """Serve this model until the block ends, and give the settings to use it; "" serves none."""
    if not name:
        yield {}
        return
    if name != MODEL:
        msg = f"DEMO_MODEL={name} is unknown; there is {MODEL}"
        raise DemoError(msg)
    script = ("run", "--quiet", "--python", sys.executable, "--script", "scripts/model.py")
    with uv(TEMPLATE, *script, stdout=subprocess.PIPE) as process:
        try:
            url = process.stdout.readline().decode().strip() if process.stdout else ""
            if not url:
                msg = "the model could not be started"
                raise DemoError(msg)
            yield {"LLM_PROVIDER": "openai", "OPENAI_BASE_URL": f"{url}/v1", "LLM_MODEL": name}
        finally:
            stop(process)


@contextlib.contextmanager
def service(project: Path, port: int, settings: dict[str, str]) -> Iterator[None]:
    """Serve until the block ends, however it ends."""
    os.environ.update(settings, HOST=HOST, PORT=str(port))
    process = uv(project, "run", "--no-sync", "python", "-m", "app")
    try:
        wait_until_ready(process, port)
        yield
    finally:
        stop(process)


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    """Poll /readyz until it answers 200."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if (code := process.poll()) is not None:
            msg = f"the service ended before it was ready (exit status {code})"
            raise DemoError(msg)
        with contextlib.suppress(OSError), request(port, "GET", "/readyz") as response:
            if response.status == HTTPStatus.OK:
                return
        time.sleep(POLL_INTERVAL)
    msg = f"the service was not ready after {START_TIMEOUT:.0f} seconds"
    raise DemoError(msg)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the service, by force where it takes too long; uv passes the signal on."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def request(
    port: int, method: str, path: str, body: object = None
) -> Iterator[http.client.HTTPResponse]:
    """Ask the service; ANSWER_TIMEOUT is for each read."""
    connection = http.client.HTTPConnection(HOST, port, timeout=ANSWER_TIMEOUT)
    with contextlib.closing(connection):
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        with connection.getresponse() as response:
            yield response


def events(lines: Iterable[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read server-sent events, each as soon as its blank line is there."""
    name, data = "message", ""
    for raw in lines:
        field, _, value = raw.decode("utf-8").rstrip("\r\n").partition(":")
        if field == "event":
            name = value.removeprefix(" ")
        elif field == "data":
            data += value.removeprefix(" ")
        elif not field and not value and data:  # a comment has no field, but a value
            yield name, json.loads(data)
            name, data = "message", ""


def show_answer(port: int) -> None:
    """Put one question to POST /chat and print the tokens as they come."""
    body = {"messages": [{"role": "user", "content": QUESTION}], "retrieve": True}
    with request(port, "POST", "/chat", body) as response:
        if response.status != HTTPStatus.OK:
            msg = f"POST /chat answered {response.status}: {response.read(500)!r}"
            raise DemoError(msg)
        tokens = 0
        for name, data in events(response):
            if name == "error":
                msg = f"the answer ended with an error: {data}"
                raise DemoError(msg)
            if name == "sources":
                show_sources(data["sources"])
            if name == "token":
                tokens += 1
                print(data["text"], end="", flush=True)
            if name == "done" and tokens:
                print()
                return
    msg = f"the answer broke off after {tokens} tokens"
    raise DemoError(msg)


def show_sources(sources: list[dict[str, Any]]) -> None:
    """Print what the answer may cite; an answer without sources is no demonstration."""
    if not sources:
        msg = "nothing was found in the documents"
        raise DemoError(msg)
    for number, source in enumerate(sources, 1):
        print(f"[{number}] {source['title']}: {source['snippet'][:SNIPPET]}", flush=True)
    print(flush=True)


def demo(*, once: bool) -> None:
    """Go through the whole demonstration."""
    print("Rendering the defaults into .demo ...", flush=True)
    project = render()
    print("Installing the service's dependencies ...", flush=True)
    install(project)
    print(f"Loading {', '.join(DOCUMENTS)} ...", flush=True)
    ingest(project)
    port = free_port(int(os.environ.get("PORT", DEFAULT_PORT)))
    print(f"Starting the service on port {port} ...\n\nPOST /chat: {QUESTION}\n", flush=True)
    name = os.environ.get("DEMO_MODEL", "")
    with model(name) as settings, service(project, port, settings):
        show_answer(port)
        print(f"\nThe chat page: http://{HOST}:{port}/", flush=True)
        if not once:
            print("Serving until Ctrl-C.", flush=True)
            while True:
                time.sleep(3600)


def main() -> int:
    """Run the demo; give the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        demo(once=os.environ.get("DEMO_ONCE", "") not in {"", "0"})
    except KeyboardInterrupt:
        return 0
    except (DemoError, OSError, http.client.HTTPException) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
