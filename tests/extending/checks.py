"""What docs/extending.md promises of its changes; run inside a project that has all of them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from tests.service import QUESTION, RunningService, at_upstream, events_of, serve, text_of
from tests.upstream import Action, FakeUpstream, Script

SECRET = "a secret of at least thirty-two bytes"  # noqa: S105


def token(**claims: object) -> dict[str, str]:
    """Return the headers of a client with these claims."""
    claims = {"sub": "alice", "exp": time.time() + 60, **claims}
    return {"Authorization": f"Bearer {jwt.encode(claims, SECRET, 'HS256')}"}


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[RunningService]:
    """Run the service for a client with a token."""
    async with serve(jwt_secret=SECRET, **settings) as service:
        service.client.headers.update(token())
        yield service


async def test_system_prompt(upstream: FakeUpstream) -> None:
    """The provider gets the system prompt before the client's messages."""
    async with serving(**at_upstream(upstream)) as service:
        await service.chat()
    system, *rest = upstream.requests[0].json["messages"]
    assert system == {"role": "system", "content": "You are the shop's assistant. Be brief."}
    assert rest == QUESTION["messages"]


async def test_endpoint(upstream: FakeUpstream) -> None:
    """An endpoint of one's own streams under the same limits, and its slot is given back."""
    upstream.script = Script(tokens=["A ", "summary"])
    async with serving(**at_upstream(upstream)) as service:
        request = service.client.stream("POST", "/summarize", json={"text": "A long text."})
        async with request as response:
            events = [event async for event in events_of(response)]
        assert (await service.client.post("/summarize", json={})).status_code == 422
        await service.idle()
    assert text_of(events) == "A summary"
    assert events[-1].name == "done"
    assert upstream.requests[0].json["messages"][1]["content"] == "A long text."


async def test_provider() -> None:
    """A provider of one's own streams, and its failure has the status of its kind."""
    statuses = iter(["200 OK", "503 Service Unavailable", "503 Service Unavailable"])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(f"HTTP/1.1 {next(statuses)}\r\nConnection: close\r\n\r\nHello!".encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = {"llm_provider": "inhouse", "inhouse_url": f"http://127.0.0.1:{port}/generate"}
        async with serving(**settings) as service:
            assert text_of(await service.chat()) == "Hello!"
            refused = await service.client.post("/chat", json=QUESTION)
    assert refused.status_code == 503


async def test_source(upstream: FakeUpstream) -> None:
    """A source of one's own is searched beside the others, and cited."""
    question = {"messages": [{"role": "user", "content": "What are your opening hours?"}]}
    async with serving(**at_upstream(upstream)) as service:
        events = await service.chat(**question, retrieve=True)
    assert [source["source"] for source in events[0].data["sources"]] == ["faq"]
    assert "The shop is open from 9 to 17." in str(upstream.requests[0].json["messages"])


@pytest.mark.parametrize("outcome", ["complete", "failed", "abandoned"])
async def test_conversations(
    upstream: FakeUpstream, capsys: pytest.CaptureFixture[str], outcome: str
) -> None:
    """The hook runs once after each answer, however it ended, with what the client was sent."""
    ends = {"complete": None, "failed": Action.CUT, "abandoned": Action.HOLD}[outcome]
    upstream.script = Script(tokens=["Hi", " there"], before_event={2: ends} if ends else {})
    async with serving(**at_upstream(upstream)) as service:
        async with service.stream() as events:
            await anext(events)
            if outcome != "abandoned":
                assert [event async for event in events]
        await service.idle()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (answered,) = [line for line in lines if line["event"] == "answered"]
    assert (answered["client"], answered["outcome"]) == ("alice", outcome)
    assert answered["text"] == ("Hi there" if outcome == "complete" else "Hi")


async def test_tokens() -> None:
    """A valid token is needed; its subject is the client's name in budgets and logs."""
    async with serve(jwt_secret=SECRET, client_rate_limit_requests=1) as service:
        expired, alice, bob = token(exp=time.time() - 60), token(), token(sub="bob")
        statuses = [
            (await service.client.post("/chat", json=QUESTION, headers=headers)).status_code
            for headers in ({}, {"Authorization": "Bearer x"}, expired, alice, alice, bob)
        ]
    assert statuses == [401, 401, 401, 200, 429, 200]
