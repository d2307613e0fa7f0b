"""A client that leaves, or does not read, costs nothing more."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import Request
from starlette.types import Message

from app.api.stream import while_connected
from app.llm.base import Chunk, ChunkStream, JSONObject
from app.llm.echo import EchoProvider
from tests.service import (
    ROUTES,
    STREAMS,
    RunningService,
    at_upstream,
    eventually,
    serve,
    text_of,
)
from tests.upstream import Action, FakeUpstream, Script

FLOOD = Script(tokens=["x" * 10_000] * 1000)
"""10 MB: more than every buffer on the way holds."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@asynccontextmanager
async def unread(service: RunningService, path: str, body: dict[str, Any]) -> AsyncIterator[None]:
    """Ask, read nothing of the answer, and reset the connection on leaving."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    length = f"content-length: {len(content)}\r\n\r\n"
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        await loop.sock_connect(client, ("127.0.0.1", service.port))
        await loop.sock_sendall(client, (head + length).encode() + content)
        yield


every_route = pytest.mark.parametrize(("path", "body"), ROUTES)


async def test_while_the_question_is_coming() -> None:
    """A client that leaves before it has sent its whole question has asked nothing wrong."""
    async with serve() as service:
        for path in {path for path, _ in ROUTES}:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            async with service.sending(f"{head}Content-Length: 99\r\n\r\n{{".encode()):
                await eventually(lambda: service.server.server_state.tasks)
            await service.idle()
            counted = (await service.services.metrics.text()).decode()
            assert f'method="POST",route="{path}",status="499"' in counted


@every_route
@pytest.mark.parametrize(
    "script", [Script(before_headers=Action.HOLD), Script(before_event={0: Action.HOLD})]
)
async def test_before_the_first_token(
    upstream: FakeUpstream, path: str, body: dict[str, Any], script: Script
) -> None:
    """A client that leaves before the provider has a token or body ends the provider's request."""
    upstream.script = script
    async with serve(**at_upstream(upstream)) as service:
        async with service.asking(path, body):
            await upstream.wait_live(1)
        await upstream.wait_aborted(1)
        await service.idle()
    assert upstream.counts.live == 0


@pytest.mark.parametrize(("path", "body"), STREAMS)
async def test_in_mid_stream(upstream: FakeUpstream, path: str, body: dict[str, Any]) -> None:
    """A client that leaves in mid-stream ends the provider's stream."""
    upstream.script = Script(tokens=2, before_event={2: Action.HOLD})
    async with serve(**at_upstream(upstream)) as service:
        async with service.client.stream("POST", path, json=body) as response:
            assert b"token0" in await anext(response.aiter_bytes())
            assert (service.in_flight, upstream.counts.live) == (1, 1)
        await upstream.wait_aborted(1)
        await service.idle()


@every_route
async def test_while_queued(upstream: FakeUpstream, path: str, body: dict[str, Any]) -> None:
    """A queued request whose client left never reaches the provider."""
    upstream.script = Script(tokens=2, before_event={2: Action.HOLD})
    async with serve(**at_upstream(upstream, llm_max_concurrency=1)) as service:
        async with service.stream() as first:
            await anext(first)
            async with service.asking(path, body):
                await eventually(lambda: service.queued == 1)
            await eventually(lambda: service.queued == 0)
            upstream.release()
            assert [event.name async for event in first][-1] == "done"
        await service.idle()
    assert upstream.counts.received == 1
    assert service.services.limiter.snapshot().abandoned == 1


async def test_next_in_the_queue_takes_the_slot(upstream: FakeUpstream) -> None:
    """The slot of a client that left goes to the one that waited, after the stream is closed."""
    upstream.script = Script(tokens=2, before_event={2: Action.HOLD})
    async with serve(**at_upstream(upstream, llm_max_concurrency=1)) as service:
        async with asyncio.TaskGroup() as clients, service.stream() as first:
            await anext(first)
            second = clients.create_task(service.chat())
            await eventually(lambda: service.queued == 1)
            upstream.script = Script()
        assert text_of(second.result()) == Script().text
    assert upstream.counts.aborted == 1
    assert upstream.counts.peak == 1


@pytest.mark.parametrize(("path", "body"), STREAMS)
async def test_under_back_pressure(upstream: FakeUpstream, path: str, body: dict[str, Any]) -> None:
    """A client that stopped reading and then breaks off ends the provider's stream too."""
    upstream.script = FLOOD
    async with serve(**at_upstream(upstream)) as service:
        async with unread(service, path, body):
            await eventually(lambda: service.back_pressured)
            assert service.in_flight == upstream.counts.live == 1
        await upstream.wait_aborted(1)
        await service.idle()


class Verbose(EchoProvider):
    """Says so much at once that the end of the answer does not fit into any buffer."""

    @asynccontextmanager
    async def stream(self, _: JSONObject) -> AsyncIterator[ChunkStream]:
        """Open the one chunk."""

        async def chunks() -> ChunkStream:
            yield [Chunk.of({"choices": [{"index": 0, "delta": {"content": "x" * 10_000_000}}]})]

        yield chunks()


@pytest.mark.parametrize(("path", "body"), STREAMS)
async def test_slot_is_free_when_the_provider_has_finished(path: str, body: dict[str, Any]) -> None:
    """Whoever reads the end of a whole answer slowly holds no slot meanwhile."""
    async with serve() as service:
        service.use(provider=Verbose())
        async with unread(service, path, body):
            await eventually(lambda: service.back_pressured)
            await eventually(lambda: service.in_flight == 0)
            assert len(service.server.server_state.tasks) == 1


@pytest.mark.parametrize(("path", "body"), STREAMS)
async def test_who_never_reads_is_as_good_as_gone(
    upstream: FakeUpstream, path: str, body: dict[str, Any]
) -> None:
    """A client that stays but reads nothing for too long loses its slot."""
    upstream.script = FLOOD
    settings = at_upstream(upstream, llm_max_concurrency=1, send_timeout=2)
    async with serve(**settings) as service, unread(service, path, body):
        await eventually(lambda: service.back_pressured)
        assert service.in_flight == 1
        await upstream.wait_aborted(1)
        await service.idle()
        upstream.script = Script()
        assert (await service.chat())[-1].name == "done"


async def test_silence_of_the_provider_is_not_the_clients(upstream: FakeUpstream) -> None:
    """It is reading that counts: a silent provider does not make its client look gone."""
    upstream.script = Script(tokens=2, token_interval=1.8)
    async with serve(**at_upstream(upstream, send_timeout=1.5)) as service:
        assert (await service.chat())[-1].name == "done"


async def test_cancellation_reaches_the_work() -> None:
    """A request that is cancelled from outside, as at the end of a drain, ends its work."""
    ended = asyncio.Event()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(while_connected(Request({"type": "http"}, receive), work()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
