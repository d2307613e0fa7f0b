"""What nobody reads in a log: a prompt, an answer, a key."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.llm.base import Chunk, ChunkStream, JSONObject
from tests.service import SERVICE_KEY, RunningService, at_upstream, error_of, serve
from tests.upstream import Action, FakeUpstream, Script

PROMPT = "my-secret-prompt"
ANSWER = "my-secret-answer"
CLIENT_KEY = "my-secret-key"
MESSAGES = {"messages": [{"role": "user", "content": PROMPT}]}
ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/chat", MESSAGES),
    ("/v1/chat/completions", {**MESSAGES, "model": "m", "stream": True}),
    ("/v1/chat/completions", {**MESSAGES, "model": "m"}),
    ("/v1/embeddings", {"input": PROMPT, "model": "m"}),
]
FATES = [
    Script(tokens=[ANSWER]),
    Script(tokens=[ANSWER], before_event={2: Action.CUT}),
    Script(tokens=[ANSWER], before_event={2: b'data: {"my-secret-answer\n\n'}),
    Script(body=b"my-secret-answer"),
    Script(status=400, body=b'{"error": {"message": "my-secret-prompt"}}'),
    Script(status=401),
    Script(before_headers=Action.HOLD),
]


class DefectiveProvider:
    """Fails in a way that nobody foresaw, with the request in a variable."""

    name = "defective"

    @asynccontextmanager
    async def stream(self, request: JSONObject) -> AsyncIterator[ChunkStream]:
        """Say one token before."""
        yield self._chunks(request)

    async def _chunks(self, request: JSONObject) -> ChunkStream:
        yield [Chunk({"choices": [{"delta": {"content": ANSWER}}]})]
        await self.complete(request)

    async def complete(self, request: JSONObject) -> JSONObject:
        """Fail at once."""
        said = json.dumps(request)
        raise ZeroDivisionError(len(said))

    embed = complete


async def ask_everything(service: RunningService) -> list[str]:
    """Ask on each route, with a key; return what came back."""
    headers = {"Authorization": f"Bearer {CLIENT_KEY}"}
    return [
        (await service.client.post(path, json=body, headers=headers)).text for path, body in ROUTES
    ]


def assert_no_secret(logged: str) -> None:
    """Check that there is a log and that no secret is in it."""
    assert '"request"' in logged
    for secret in (PROMPT, ANSWER, CLIENT_KEY, SERVICE_KEY):
        assert secret not in logged


@pytest.mark.parametrize("script", FATES)
async def test_no_secret_whatever_happens(
    upstream: FakeUpstream, capsys: pytest.CaptureFixture[str], script: Script
) -> None:
    """At the default level neither prompt, answer nor key is logged, however the request ends."""
    upstream.script = script
    deadlines = {"llm_timeout_first_token": 0.05, "llm_timeout_total": 0.05}
    async with serve(**at_upstream(upstream, **deadlines)) as service:
        await ask_everything(service)
    assert_no_secret(capsys.readouterr().err)


async def test_no_secret_in_the_traceback_of_a_defect(capsys: pytest.CaptureFixture[str]) -> None:
    """A defect is logged with its traceback and request id, but without the data it failed on."""
    async with serve() as service:
        service.use(provider=DefectiveProvider())
        answers = await ask_everything(service)
    logged = capsys.readouterr().err
    assert_no_secret(logged)
    defects = [line for line in map(json.loads, logged.splitlines()) if "exception" in line]
    assert len(defects) == len(ROUTES)
    assert all("ZeroDivisionError" in str(line) and line["request_id"] for line in defects)
    assert all("internal_error" in answer and "Zero" not in answer for answer in answers)


async def test_defect_is_500_with_a_request_id() -> None:
    """Who meets a defect can name the request to whoever looks for it in the log."""
    async with serve() as service:
        service.use(provider=DefectiveProvider())
        path, body = ROUTES[2]
        response = await service.client.post(path, json=body, headers={"X-Request-ID": "this-one"})
        assert service.in_flight == 0
    assert response.status_code == 500
    assert error_of(response)["type"] == "internal_error"
    assert response.headers["x-request-id"] == "this-one"


async def test_no_secret_of_an_invalid_request(capsys: pytest.CaptureFixture[str]) -> None:
    """A body that is refused is not logged either."""
    async with serve() as service:
        for path, body in ROUTES:
            await service.client.post(path, json={**body, "messages": PROMPT, "input": {PROMPT: 1}})
    assert_no_secret(capsys.readouterr().err)
