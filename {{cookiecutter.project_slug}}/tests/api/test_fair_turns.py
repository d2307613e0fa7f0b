"""Fair turns among clients: who piles up requests delays nobody but itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.service import QUESTION, RunningService, at_upstream, eventually, serve
from tests.upstream import Action, FakeUpstream, Script

KEYS = "alice:key-of-alice,bob:key-of-bob"


async def ask(service: RunningService, client: str) -> None:
    """Ask in a client's name, which is also what it says."""
    body = {"messages": [{**QUESTION["messages"][0], "content": client}]}
    headers = {"Authorization": f"Bearer key-of-{client}"}
    response = await service.client.post("/chat", json=body, headers=headers)
    assert response.status_code == 200


@asynccontextmanager
async def queueing(upstream: FakeUpstream, clients: list[str]) -> AsyncIterator[None]:
    """Let clients queue in this order behind a first call of alice; let them go on leaving."""
    upstream.script = Script(before_headers=Action.HOLD)
    settings = at_upstream(upstream, llm_max_concurrency=1, api_keys=KEYS)
    async with serve(**settings) as service, asyncio.TaskGroup() as asking:
        asking.create_task(ask(service, "alice"))
        await upstream.wait_held(1)
        for place, client in enumerate(clients, start=1):
            asking.create_task(ask(service, client))
            await eventually(lambda place=place: service.queued == place)  # type: ignore[misc]
        yield
        upstream.script = Script()
        upstream.release()


def served(upstream: FakeUpstream) -> list[str]:
    """List who was served after the first, in order."""
    return [request.json["messages"][0]["content"] for request in upstream.requests][1:]


async def test_a_first_request_waits_one_round(upstream: FakeUpstream) -> None:
    """However many of alice's wait, bob's first is served after one of hers at the most."""
    async with queueing(upstream, ["alice"] * 9 + ["bob"]):
        pass
    assert "bob" in served(upstream)[:2]
    assert len(served(upstream)) == 10
