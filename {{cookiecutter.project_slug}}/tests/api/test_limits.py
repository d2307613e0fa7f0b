"""The limit on calls at once: shared fairly among clients, and adapted to the provider."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.service import (
    COMPLETION,
    EMBEDDING,
    QUESTION,
    RunningService,
    at_upstream,
    error_of,
    eventually,
    serve,
    text_of,
)
from tests.upstream import Action, FakeUpstream, Script

CEILING = 20
CLIENTS = 100
ANSWER = Script(tokens=5, first_token_delay=0.01, token_interval=0.002)
HELD = Script(tokens=ANSWER.tokens, before_headers=Action.HOLD)


async def chat(service: RunningService) -> str:
    """Ask /chat; return the text if the answer was whole."""
    events = await service.chat()
    return text_of(events) if events[-1].name == "done" else ""


async def streamed_completion(service: RunningService) -> str:
    """Ask OpenAI's way, streamed; return the text if the answer was whole."""
    text, finished = "", None
    async for chunk in await service.openai.chat.completions.create(**COMPLETION, stream=True):
        text += chunk.choices[0].delta.content or ""
        finished = chunk.choices[0].finish_reason
    return text if finished else ""


async def plain_completion(service: RunningService) -> str:
    """Ask OpenAI's way, for a whole answer."""
    completion = await service.openai.chat.completions.create(**COMPLETION)
    return completion.choices[0].message.content or ""


@pytest.mark.parametrize("ask", [chat, streamed_completion, plain_completion])
async def test_never_more_than_the_ceiling(upstream: FakeUpstream, ask: Any) -> None:
    """Of 100 that ask at once never more than 20 are at the provider, and all 100 end whole."""
    upstream.script = ANSWER
    upstream.queue.extend([HELD] * CEILING)
    async with serve(**at_upstream(upstream, llm_max_concurrency=CEILING)) as service:
        asking = asyncio.gather(*(ask(service) for _ in range(CLIENTS)))
        await upstream.wait_held(CEILING)
        upstream.release()
        answers = await asking
        await service.idle()
    assert answers == [ANSWER.text] * CLIENTS
    assert upstream.counts.peak == CEILING
    assert upstream.counts.completed == CLIENTS
    assert upstream.counts.connections <= CEILING


async def test_workers_share_the_ceiling(upstream: FakeUpstream) -> None:
    """It is the service's: two workers have no more calls in flight together than it allows."""
    settings = at_upstream(upstream, llm_max_concurrency=3, workers=2)
    upstream.script = HELD
    async with serve(**settings) as one, serve(**settings) as two:
        asking = asyncio.gather(*(chat(service) for service in (one, two) for _ in range(3)))
        await upstream.wait_held(2)
        await eventually(lambda: one.queued == two.queued == 2)
        upstream.script = ANSWER
        upstream.release()
        assert await asking == [ANSWER.text] * 6
    assert upstream.counts.peak == 2


async def test_nothing_leaks_in_a_storm_of_disconnects(upstream: FakeUpstream) -> None:
    """Clients that leave at any moment leave no slot, no place and no provider call behind."""
    chance = random.Random(20)
    upstream.script = ANSWER
    calls = [chat, streamed_completion, plain_completion, embedding]

    def least() -> int:
        abandoned = service.services.limiter.snapshot().abandoned
        return min(abandoned, upstream.counts.aborted, upstream.counts.completed)

    async with serve(**at_upstream(upstream, llm_max_concurrency=5)) as service:
        rounds = 0
        # How many leave when is up to the machine: on a slow one it takes more rounds.
        while least() <= 10 and (rounds := rounds + 1) <= 100:
            async with asyncio.TaskGroup() as clients:
                for _ in range(30):
                    call = chance.choice(calls)(service)
                    patience = chance.choice([None, chance.uniform(0, 0.2)])
                    clients.create_task(leaving(call, patience))
        await service.idle()
        await upstream.wait_live(0)
        assert await chat(service) == ANSWER.text
    assert least() > 10
    assert upstream.counts.peak <= 5


async def embedding(service: RunningService) -> None:
    """Ask for an embedding."""
    await service.openai.embeddings.create(**EMBEDDING)


async def leaving(call: Any, patience: float | None) -> None:
    """Hang up after `patience` seconds, or never."""
    try:
        async with asyncio.timeout(patience):
            await call
    except TimeoutError:
        pass


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
