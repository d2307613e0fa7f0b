"""The log of a running service: a line for each request."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.service import COMPLETION, EMBEDDING, QUESTION, at_upstream, serve
from tests.upstream import Action, FakeUpstream, Script

ROUTES = [
    ("/chat", QUESTION),
    ("/v1/chat/completions", {**COMPLETION, "stream": True}),
    ("/v1/chat/completions", COMPLETION),
    ("/v1/embeddings", EMBEDDING),
]
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """Return what has been logged since the last call."""
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def of_requests(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pick the lines that requests end with."""
    return [line for line in lines if line["logger"] == "app.access"]


async def test_each_request_is_a_line(upstream: FakeUpstream, lines: Lines) -> None:
    """A request's line says what was asked for, how it ended and how long it took."""
    async with serve(**at_upstream(upstream)) as service:
        await service.client.get("/nowhere?token=secret", headers={"X-Request-ID": "one"})
        await service.client.post("/chat", json=QUESTION, headers={"X-Request-ID": "two"})
    refused, answered = of_requests(lines())
    assert refused.items() >= {
        "event": "request", "request_id": "one", "method": "GET", "path": "/nowhere",
        "status": 404, "level": "info",
    }.items()  # fmt: skip
    assert (answered["request_id"], answered["status"]) == ("two", 200)
    assert 0 <= answered["first_byte_ms"] <= answered["duration_ms"]


async def test_stream_is_logged_when_it_ends(upstream: FakeUpstream, lines: Lines) -> None:
    """An open stream has no line yet; its line has the time to the first byte."""
    upstream.script = Script(tokens=2, before_event={2: Action.HOLD})
    async with serve(**at_upstream(upstream)) as service:
        async with service.stream() as events:
            await anext(events)
            assert of_requests(lines()) == []
            upstream.release()
            assert [event.name async for event in events][-1] == "done"
        await service.idle()
        (line,) = of_requests(lines())
    assert line["first_byte_ms"] < line["duration_ms"]


async def test_probes_are_not_logged(lines: Lines) -> None:
    """What an orchestrator asks every second stays out of the log."""
    async with serve() as service:
        await service.client.get("/livez")
        await service.client.get("/readyz")
    assert of_requests(lines()) == []


async def test_client_that_left_is_499(upstream: FakeUpstream, lines: Lines) -> None:
    """A client that left before the response is logged as such, not as a failure."""
    upstream.script = Script(before_headers=Action.HOLD)
    async with serve(**at_upstream(upstream)) as service:
        for path, body in ROUTES:
            async with service.asking(path, body):
                await upstream.wait_live(1)
            await service.idle()
            await upstream.wait_live(0)  # or the next request is taken for there already
    logged = lines()
    assert [line["status"] for line in of_requests(logged)] == [499] * len(ROUTES)
    assert {line["level"] for line in logged if "request_id" in line} == {"info"}


async def test_every_line_of_a_request_has_its_id(upstream: FakeUpstream, lines: Lines) -> None:
    """Whoever logs while a request is served, the line carries the request's id."""
    upstream.script = Script(tokens=3, before_event={2: Action.HOLD, 3: Action.CUT})
    async with serve(**at_upstream(upstream)) as service:
        headers = {"X-Request-ID": "broken-off"}
        request = service.client.stream("POST", "/chat", json=QUESTION, headers=headers)
        async with request as response:
            await anext(response.aiter_bytes())
            upstream.release()
        await service.idle()
    logged = [line["event"] for line in lines() if line.get("request_id") == "broken-off"]
    assert logged == ["stream ended early", "request"]


async def test_refusal_is_logged_with_its_error(upstream: FakeUpstream, lines: Lines) -> None:
    """The line of a refused request names the error."""
    upstream.script = Script(status=401)
    async with serve(**at_upstream(upstream)) as service:
        await service.client.post("/chat", json=QUESTION)
    (line,) = of_requests(lines())
    assert (line["status"], line["error"]) == (502, "provider_authentication")
