"""What nobody reads in a log: a prompt, an answer, a key."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
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
INVALID = [(path, {**body, "messages": PROMPT, "input": {PROMPT: 1}}) for path, body in ROUTES]
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
        """Stream one token, then fail."""

        async def chunks() -> ChunkStream:
            yield [Chunk.of({"choices": [{"delta": {"content": ANSWER}}]})]
            await self.complete(request)

        yield chunks()

    async def complete(self, request: JSONObject) -> JSONObject:
        """Fail at once."""
        prompt = json.dumps(request)
        raise ZeroDivisionError(len(prompt))

    embed = complete


async def ask(service: RunningService, *routes: tuple[str, object]) -> list[httpx.Response]:
    """Ask on each route, with a key and a request id."""
    headers = {"Authorization": f"Bearer {CLIENT_KEY}", "X-Request-ID": "this-one"}
    return [await service.client.post(path, json=body, headers=headers) for path, body in routes]


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
        await ask(service, *ROUTES, *INVALID)
    assert_no_secret(capsys.readouterr().err)


async def test_defect_is_500_with_a_request_id(capsys: pytest.CaptureFixture[str]) -> None:
    """A defect's traceback is logged, under the request's id, without the data it failed on."""
    async with serve() as service:
        service.use(provider=DefectiveProvider())
        answers = await ask(service, *ROUTES)
        assert service.in_flight == 0
    logged = capsys.readouterr().err
    assert_no_secret(logged)
    defects = [line for line in map(json.loads, logged.splitlines()) if "exception" in line]
    assert [line["request_id"] for line in defects] == ["this-one"] * len(ROUTES)
    assert all("ZeroDivisionError" in str(line) for line in defects)
    assert all("internal_error" in one.text and "Zero" not in one.text for one in answers)
    assert [one.status_code for one in answers] == [200, 200, 500, 500]
    assert error_of(answers[2])["type"] == "internal_error"
    assert answers[2].headers["x-request-id"] == "this-one"
