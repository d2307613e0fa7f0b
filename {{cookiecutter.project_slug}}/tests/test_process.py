"""The service as a process: how it starts, and that it stops without cutting anybody off."""

import asyncio
import json
import os
import re
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from app.__main__ import main
from tests.process import PYTHON, ServiceProcess, run, start_service
from tests.service import (
    COMPLETION,
    LOCALHOST,
    PATIENCE,
    QUESTION,
    Event,
    at_upstream,
    error_of,
    events_of,
)
from tests.upstream import Action, FakeUpstream, Script

HELD = Script(tokens=2, before_event={2: Action.HOLD})
FAILING_TO_START = """
import logging, os, sys, threading
done = []
def note(event, arguments):
    if event.startswith("socket."):
        done.append(event)
    if event == "open" and "/app/" in str(arguments[0]) and ".py" not in str(arguments[0]):
        done.append(arguments[0])
import urllib3  # its own import tries out IPv6  # optional: vector_store=qdrant
sys.addaudithook(note)
import app.main
assert not done, done
assert threading.active_count() == 1, threading.enumerate()
assert not logging.getLogger().handlers
del os.environ["LLM_MAX_QUEUE"]

import uvicorn
import app.wiring.http

def fail(**_):
    raise ExceptionGroup("unhandled errors in a TaskGroup", [OSError("disk full")])

app.wiring.http.build_http_client = fail
uvicorn.run("app.main:create_app", factory=True, port=0)
"""


def environment(upstream: FakeUpstream, **values: object) -> dict[str, str]:
    """Return the variables of a service whose provider is `upstream`."""
    settings = at_upstream(upstream, **values)
    return {name.upper(): str(value) for name, value in settings.items()}


async def test_failure_to_start_is_one_line(tmp_path: Path) -> None:
    """Importing does nothing and reads no settings; what fails to open then is named in one line.

    That holds under plain uvicorn too, without a traceback.
    """
    command = (PYTHON, "-c", FAILING_TO_START)
    code, stdout, stderr = await run(tmp_path, *command, LLM_MAX_QUEUE="many")
    assert (code, stdout) == (3, ""), stderr
    events = [json.loads(line)["event"] for line in stderr.splitlines()]
    assert "OSError: disk full" in events
    assert "Traceback" not in stderr
    assert events[-1] == "Application startup failed. Exiting."


@pytest.fixture
def run_main(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Return what runs `python -m app` under given variables up to the call of uvicorn."""

    def run_with(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        main()

    def start(_: str, *, timeout_keep_alive: int, **__: object) -> None:
        assert timeout_keep_alive > 60  # so long nginx keeps idle connections

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("uvicorn.run", start)
    return run_with


@pytest.mark.parametrize("host", [LOCALHOST, "no..host"])
def test_address_where_it_cannot_listen(run_main: Callable[..., None], host: str) -> None:
    """An address that is taken, or is none, ends the start with one line that names it."""
    with socket.create_server((LOCALHOST, 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit, match=f"^HOST={host} PORT={port}: .*$"):
            run_main(HOST=host, PORT=port)


@pytest.mark.parametrize(
    ("host", "keys", "warnings"),
    [("localhost", "", 0), ("0.0.0.0", "alice:key", 0), ("0.0.0.0", "", 1)],
)
def test_open_service_is_a_warning(
    run_main: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    host: str,
    keys: str,
    warnings: int,
) -> None:
    """A start without keys at an address that others reach is one warning."""
    run_main(HOST=host, PORT="0", API_KEYS=keys)
    assert capsys.readouterr().err.count("API_KEYS is not set") == warnings


async def test_open_stream_ends_whole(upstream: FakeUpstream, tmp_path: Path) -> None:
    """After SIGTERM what is open goes on to its end, and new work is told to go elsewhere."""
    upstream.script = HELD
    async with start_service(tmp_path, **environment(upstream)) as process:
        async with process.client.stream("POST", "/chat", json=QUESTION) as response:
            events = events_of(response)
            assert await anext(events) == Event("token", {"text": " token0"})
            process.signal(signal.SIGTERM)
            await until_draining(process)
            refused = await process.client.post("/v1/chat/completions", json=COMPLETION)
            assert (await process.client.get("/livez")).status_code == 200
            upstream.release()
            assert [event async for event in events][-1].name == "done"
        assert await process.ended() == 0
    assert refused.status_code == 503
    assert error_of(refused)["type"] == "draining"
    assert int(refused.headers["retry-after"]) >= 1
    assert upstream.counts.received == 1
    assert all(json.loads(line) for line in process.log)


async def until_draining(process: ServiceProcess) -> None:
    """Wait until the service says that it wants no more traffic."""
    async with asyncio.timeout(PATIENCE):
        while (await process.ready()).json() != {"status": "draining"}:
            pass
    assert (await process.ready()).status_code == 503


async def test_what_does_not_end_is_told(upstream: FakeUpstream, tmp_path: Path) -> None:
    """After the drain timeout streams end with an error event, and all else with 503."""
    upstream.script = HELD
    settings = environment(upstream, llm_max_concurrency=3, drain_timeout=0.5)
    streamed = {**COMPLETION, "stream": True}
    async with start_service(tmp_path, **settings) as process, AsyncExitStack() as stack:
        open_stream = process.client.stream
        chat = await stack.enter_async_context(open_stream("POST", "/chat", json=QUESTION))
        completion = await stack.enter_async_context(
            open_stream("POST", "/v1/chat/completions", json=streamed)
        )
        upstream.script = Script(before_headers=Action.HOLD)
        async with asyncio.TaskGroup() as clients:
            plain = clients.create_task(
                process.client.post("/v1/chat/completions", json=COMPLETION)
            )
            await upstream.wait_live(3)
            queued = clients.create_task(process.client.post("/v1/chat/completions", json=streamed))
            told = await stack.enter_async_context(open_stream("POST", "/chat", json=QUESTION))
            process.signal_group(signal.SIGINT)
        *_, last = [event async for event in events_of(chat)]
        waited = [event async for event in events_of(told)]
        *_, error = [line async for line in completion.aiter_lines() if line]
        assert await process.ended() == 0
    assert (last.name, last.data["type"]) == ("error", "draining")
    assert [event.name for event in waited] == ["queued", "error"]
    assert json.loads(error.removeprefix("data: "))["error"]["type"] == "draining"
    for response in (plain.result(), queued.result()):
        assert response.status_code == 503
        assert error_of(response)["type"] == "draining"
    assert upstream.counts.live == 0


async def in_metrics(process: ServiceProcess, name: str) -> float:
    """Read the sum of a metric's samples from whichever worker answers."""
    response = await process.client.get("/metrics", headers={"Connection": "close"})
    samples = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", response.text, re.MULTILINE)
    return sum(map(float, samples))


def workers_of(process: ServiceProcess) -> list[int]:
    """Find the processes that serve, of which there are several."""
    root = Path("/proc") / str(process.process.pid)
    children = (root / "task" / root.name / "children").read_text().split()
    return [
        int(pid) for pid in children if b"spawn_main" in Path("/proc", pid, "cmdline").read_bytes()
    ]


async def reaching(value: float, read: Callable[[], Awaitable[float]]) -> None:
    """Wait until what is read is this value; it is up to a second old."""
    async with asyncio.timeout(PATIENCE):
        while await read() != value:  # noqa: ASYNC110 -- no event is set in another process
            await asyncio.sleep(0.05)


async def test_workers_are_one_service(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Each scrape covers all workers: of a killed one counters stay, gauges go. Ctrl-C drains."""
    upstream.script = HELD
    settings = environment(upstream, workers=2, llm_timeout_idle=600)
    async with start_service(tmp_path, **settings) as process, AsyncExitStack() as streams:
        for _ in range(8):
            opened = process.client.stream("POST", "/chat", json=QUESTION)
            await streams.enter_async_context(opened)
        for _ in range(4):
            await process.client.post("/chat", json={}, headers={"Connection": "close"})
        await reaching(8, lambda: in_metrics(process, "llm_in_flight"))
        assert await in_metrics(process, "http_requests_total") == 4
        os.kill(workers_of(process)[0], signal.SIGKILL)
        await process.logs("Child process")
        await process.logs("startup complete")
        await reaching(upstream.counts.live, lambda: in_metrics(process, "llm_in_flight"))
        assert await in_metrics(process, "http_requests_total") == 4
        async with process.client.stream("POST", "/chat", json=QUESTION) as response:
            events = events_of(response)
            assert (await anext(events)).name == "token"
            process.signal_group(signal.SIGINT)  # each worker gets it twice, also from its parent
            await process.logs("Terminated child process")
            await until_draining(process)
            upstream.release()
            assert [event async for event in events][-1].name == "done"
        assert await process.ended() == 0
