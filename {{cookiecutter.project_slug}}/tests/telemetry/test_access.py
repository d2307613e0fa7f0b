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
    """A request's line says what was asked, how it ended, how long it took. Probes have none."""
    upstream.script = Script(status=401)
    async with serve(**at_upstream(upstream)) as service:
        for probe in ("/livez", "/health", "/readyz", "/metrics"):
            await service.client.get(probe)
        await service.client.get("/nowhere?token=secret", headers={"X-Request-ID": "one"})
        await service.client.post("/chat", json=QUESTION, headers={"X-Request-ID": "two two"})
    unknown, failed = of_requests(lines())
    assert unknown.items() >= {
        "event": "request", "request_id": "one", "method": "GET", "path": "/nowhere",
        "status": 404, "level": "info",
    }.items()  # fmt: skip
    assert (failed["status"], failed["error"]) == (502, "provider_authentication")
    assert failed["request_id"].isalnum()
    assert 0 <= failed["first_byte_ms"] <= failed["duration_ms"]


async def test_stream_is_logged_when_it_ends(upstream: FakeUpstream, lines: Lines) -> None:
    """An open stream has no line yet; all lines of a request have its id, from any logger."""
    upstream.script = Script(tokens=3, before_event={2: Action.HOLD, 3: Action.CUT})
    async with serve(**at_upstream(upstream)) as service:
        headers = {"X-Request-ID": "broken-off"}
        request = service.client.stream("POST", "/chat", json=QUESTION, headers=headers)
        async with request as response:
            await anext(response.aiter_bytes())
            assert of_requests(lines()) == []
            upstream.release()
        await service.idle()
    ended, line = [line for line in lines() if line.get("request_id") == "broken-off"]
    assert (ended["event"], line["event"]) == ("stream ended early", "request")
    assert line["first_byte_ms"] < line["duration_ms"]


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
