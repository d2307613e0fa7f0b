"""The service under test: a real uvicorn on a real socket, in the test's own event loop.

    async with serve(llm_max_concurrency=2) as service:
        response = await service.client.post("/chat", json=...)

Real sockets, because an ASGI test client buffers whole responses and knows no disconnects.
"""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.clients import Client
from app.lifespan import Services
from app.main import create_app
from app.ratelimit.base import RateLimited
from app.settings import Settings
from tests.upstream import FakeUpstream

QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "How are you?"}]}
COMPLETION: dict[str, Any] = {**QUESTION, "model": "gpt-fake"}
STREAMED = {**COMPLETION, "stream": True}
EMBEDDING: dict[str, Any] = {"model": "embed-fake", "input": "How are you?"}
STREAMS = [("/chat", QUESTION), ("/v1/chat/completions", STREAMED)]
ROUTES = [*STREAMS, ("/v1/chat/completions", COMPLETION), ("/v1/embeddings", EMBEDDING)]
"""Path and body of every kind of call of a provider."""
LOCALHOST = "127.0.0.1"
STORE = "none: {folder}"  # optional: vector_store=none
STORE = "postgresql://127.0.0.1:1/nowhere"  # optional: vector_store=pgvector
STORE = "http://127.0.0.1:1"  # optional: vector_store=qdrant
STORE = "sqlite:///{folder}/documents.db"  # optional: vector_store=sqlite
"""Of a service that is not asked about documents; a server of a store would not be there."""
SERVICE_KEY = "sk-secret-of-the-service"
PATIENCE = 20.0
"""Seconds until a wait gives up and the test fails; nothing but a defect takes so long."""


@dataclass(frozen=True)
class Event:
    """One event of `/chat`, as its client sees it."""

    name: str
    data: dict[str, Any]


async def eventually(holds: Callable[[], object]) -> None:
    """Wait until `holds`, for what announces no change; AssertionError if it never does."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not holds():  # noqa: ASYNC110 -- no event is set for it
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise AssertionError(f"not reached in {PATIENCE:g} s") from None


async def events_of(response: httpx.Response) -> AsyncGenerator[Event]:
    """Decode the events of `/chat`; comments are passed over."""
    # Not by aiter_lines: it takes U+2028 for the end of a line, which SSE does not.
    received = b""
    async for piece in response.aiter_bytes():
        *whole, received = (received + piece).split(b"\n\n")
        for name, data in (block.split(b"\n", 1) for block in whole if block[:1] != b":"):
            yield Event(
                name.removeprefix(b"event: ").decode(), json.loads(data.removeprefix(b"data: "))
            )
    assert not received, f"the response ended in the middle of an event: {received!r}"


def error_of(response: httpx.Response) -> dict[str, Any]:
    """Return what a refusal says; every refusal has this one shape, in OpenAI's words."""
    assert response.is_error, response
    assert response.headers["content-type"] == "application/json"
    assert response.json().keys() == {"error"}
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() - {"retry_after"} == {"type", "message", "code", "param"}
    assert ("retry_after" in error) == ("retry-after" in response.headers)
    return error


def text_of(events: list[Event]) -> str:
    """Put the answer's text together."""
    return "".join(event.data["text"] for event in events if event.name == "token")


def at_upstream(upstream: FakeUpstream, **values: Any) -> dict[str, Any]:
    """Return settings for a service whose provider is `upstream`, under a ceiling that stays."""
    return {
        "llm_adaptive": False,
        "llm_provider": "openai",
        "openai_base_url": upstream.base_url,
        "openai_api_key": SERVICE_KEY,
        **values,
    }


@dataclass(frozen=True)
class RunningService:
    """A running service: its parts, a client of its HTTP API, and one of OpenAI's."""

    server: uvicorn.Server
    client: httpx.AsyncClient
    openai: AsyncOpenAI

    @property
    def port(self) -> int:
        """Where it listens, on LOCALHOST."""
        return self.server.config.port

    @property
    def services(self) -> Services:
        """What the lifespan opened."""
        services: Services = self.server.lifespan.state["services"]
        return services

    def use(self, **parts: Any) -> None:
        """Swap parts of the service, for the requests to come."""
        self.server.lifespan.state["services"] = replace(self.services, **parts)

    @property
    def in_flight(self) -> int:
        """How many slots are held."""
        return self.services.limiter.snapshot().in_flight

    @property
    def queued(self) -> int:
        """How many requests wait for a slot."""
        return self.services.limiter.snapshot().queued

    @property
    def back_pressured(self) -> bool:
        """Whether a client reads so slowly that the service cannot send."""
        return any(
            isinstance(connection, HttpToolsProtocol) and connection.flow.write_paused
            for connection in self.server.server_state.connections
        )

    async def idle(self) -> None:
        """Wait until every slot is free, nobody waits, and every request has ended."""
        await eventually(
            lambda: self.in_flight == self.queued == len(self.server.server_state.tasks) == 0
        )

    @asynccontextmanager
    async def asking(self, path: str, body: object) -> AsyncIterator[None]:
        """Ask, and hang up on leaving, wherever the answer is by then."""
        task = asyncio.create_task(self.client.post(path, json=body))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    @asynccontextmanager
    async def sending(self, request: bytes) -> AsyncIterator[asyncio.StreamReader]:
        """Send these bytes on a connection of its own, which is closed on leaving."""
        reader, writer = await asyncio.open_connection(LOCALHOST, self.port)
        writer.write(request)
        try:
            yield reader
        finally:
            writer.close()

    async def ask(
        self, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Ask, and wait until the request has given everything back."""
        response = await self.client.post(path, json=body, headers=headers)
        await self.idle()
        return response

    async def left(self, client: str = f"address:{LOCALHOST}") -> dict[str, int]:
        """Return what is left of each budget of a client."""
        limits = self.services.limits
        try:
            nothing = await limits.limiter.reserve(limits.budgets(Client(client)), tokens=0)
        except RateLimited as refusal:
            return {status.budget.name: status.remaining for status in refusal.statuses}
        nothing.cancel()
        return {
            status.budget.name: status.remaining + (status.budget.unit == "requests")
            for status in nothing.statuses
        }

    async def chat(self, **question: Any) -> list[Event]:
        """Ask `/chat` and return all events of the answer."""
        async with self.stream(**question) as events:
            return [event async for event in events]

    @asynccontextmanager
    async def stream(self, **question: Any) -> AsyncIterator[AsyncIterator[Event]]:
        """Ask `/chat` and read the events as they come; to leave early is to hang up."""
        request = self.client.stream("POST", "/chat", json=QUESTION | question)
        async with request as response, aclosing(events_of(response)) as events:
            assert response.status_code == 200, await response.aread()
            yield events


@asynccontextmanager
async def serve(**values: Any) -> AsyncIterator[RunningService]:
    """Run the service with these settings on a port of its own; stop it on leaving."""
    pace = {"echo_first_token_delay": 0, "echo_token_interval": 0}
    with TemporaryDirectory() as folder:
        store = {"vector_store_url": STORE.format(folder=folder)}
        settings = Settings(**{"_env_file": None, **pace, **store, **values})
        async with (
            _listening(create_app(settings)) as server,
            http_client(server.config.port) as client,
            DefaultAsyncHttpxClient() as openai_client,
        ):
            openai = AsyncOpenAI(
                api_key="of-the-client",
                base_url=f"{client.base_url}/v1",
                max_retries=0,
                http_client=openai_client,
            )
            yield RunningService(server, client, openai)


@asynccontextmanager
async def _listening(app: FastAPI) -> AsyncIterator[uvicorn.Server]:
    # TCP by its number: without it asyncio leaves Nagle's delays of 40 ms on.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind((LOCALHOST, 0))
        port = listener.getsockname()[1]
        config = uvicorn.Config(app, port=port, log_config=None, timeout_keep_alive=600)
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup([listener])
        try:
            yield server
        finally:
            await stop(server)


async def stop(server: uvicorn.Server) -> None:
    """Stop as uvicorn does, but fail if a request outlives its test instead of cancelling it."""
    for listening in server.servers:
        listening.close()
    for connection in tuple(server.server_state.connections):
        connection.shutdown()
    await eventually(lambda: not server.server_state.connections | server.server_state.tasks)
    await server.lifespan.shutdown()


def http_client(port: int) -> httpx.AsyncClient:
    """Build a client with as many connections as a test wants."""
    limits = httpx.Limits(max_connections=None)
    url = f"http://{LOCALHOST}:{port}"
    return httpx.AsyncClient(base_url=url, limits=limits, timeout=PATIENCE)
