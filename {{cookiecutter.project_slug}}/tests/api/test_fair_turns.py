"""Fairness among clients: one that sends many requests delays and refuses only itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from tests.service import QUESTION, RunningService, at_upstream, error_of, eventually, serve
from tests.upstream import Action, FakeUpstream, Script

COMPLETIONS = "/v1/chat/completions"
KEYS = "alice:key-of-alice,bob:key-of-bob"


async def ask(
    service: RunningService, client: str, path: str = "/chat", **extra: object
) -> httpx.Response:
    """Ask in a client's name, which is also the question."""
    body = {"messages": [{**QUESTION["messages"][0], "content": client}], **extra}
    headers = {"Authorization": f"Bearer key-of-{client}"}
    return await service.client.post(path, json=body, headers=headers)


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


async def test_a_full_queue_has_room_for_another_client(upstream: FakeUpstream) -> None:
    """Where alice fills the queue, her newest request gets 503 when bob comes; he is served."""
    upstream.script = Script(before_headers=Action.HOLD)
    settings = at_upstream(upstream, llm_max_concurrency=1, llm_max_queue=3, api_keys=KEYS)
    async with serve(**settings) as service:
        asking = [asyncio.create_task(ask(service, "alice", COMPLETIONS))]
        await upstream.wait_held(1)
        for place in (1, 2, 3):
            asking.append(asyncio.create_task(ask(service, "alice", COMPLETIONS)))
            await eventually(lambda place=place: service.queued == place)  # type: ignore[misc]
        refused = await ask(service, "alice", COMPLETIONS)
        asking.append(asyncio.create_task(ask(service, "bob", retrieve=True)))
        displaced = await asking[3]
        for response in (refused, displaced):
            assert (response.status_code, error_of(response)["type"]) == (503, "queue_full")
            assert response.headers["retry-after"] == "30"
        upstream.script = Script()
        upstream.release()
        assert [(await task).status_code for task in asking] == [200, 200, 200, 503, 200]
    assert served(upstream) == ["alice", "bob", "alice"]
