"""What is Qdrant's own: its address and key, a server that is away, requests that get lost."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from app.stores.protocol import (
    Document,
    EmbeddingMismatchError,
    StoreError,
    StoreUnavailableError,
)
from app.stores.qdrant import QdrantStore
from app.stores.qdrant_requests import PORT, server_at
from tests.stores.contract import (
    LONG,
    MODEL,
    axis,
    everything,
    found,
    passages,
    store_passages,
    submit,
)
from tests.stores.on_qdrant import NOWHERE
from tests.stores.qdrant_server import QdrantServer, Trouble, answering, silent_until

SHORT = 0.1


@pytest.fixture
async def server() -> AsyncIterator[QdrantServer]:
    """Provide a server that is not serving yet."""
    server = QdrantServer()
    yield server
    await server.engine.close()


@pytest.mark.parametrize(
    ("address", "url", "key"),
    [
        ("http://localhost:6333", "http://localhost:6333", ""),
        ("http://qdrant", f"http://qdrant:{PORT}", ""),
        ("https://k%2Fe%40y@host:80", "https://host:80", "k/e@y"),
        ("https://:key@host", f"https://host:{PORT}", "key"),
        ("https://user:key@host/proxied/", f"https://host:{PORT}/proxied", "key"),
        ("http://[::1]:1", "http://[::1]:1", ""),
    ],
)
def test_address(address: str, url: str, key: str) -> None:
    """The address names the server; what is before the @ is the key, and not shown."""
    server = server_at(address)
    assert (server.url, server.key) == (url, key)
    assert not key or key not in repr(server)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost:6333",
        "qdrant://key@host",
        "postgresql://key@host/db",
        "https://key@",
        "https://key@host:port",
        "https://key@host:99999",
        "https://key@host?a=b",
        "https://key@host#a",
        "https://key@[host",
    ],
)
def test_no_address(address: str) -> None:
    """Whatever names no server is refused in a line that says how it must be, without the key."""
    with pytest.raises(ValueError, match="http://localhost:6333") as error:
        QdrantStore(address, model=MODEL)
    assert "key" not in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.__cause__ is None


async def test_over_http(server: QdrantServer) -> None:
    """All that a store does works over HTTP, with the key in each request."""
    async with asyncio.timeout(LONG), server.running() as url:
        address = url.replace("//", "//k%40y@")
        async with QdrantStore(address, model=MODEL) as store:
            await store.submit(Document("d", "1", "Title", metadata={"n": 1}), b"\0content")
            await submit(store, "given up")
            assert await store.unfinished() == ["d", "given up"]
            begun = await store.begin("d")
            assert begun is not None
            assert begun[1] == b"\0content"
            await store.fail("given up", "1", "error")
            await store.upsert("d", "1", passages("old", at=axis(1)))
            await store_passages(store, "d", passages("a", "b"), revision="2")
            hits = await everything(store)
            assert {(hit.text, hit.title, hit.score) for hit in hits} == {
                ("a", "d", 1.0),
                ("b", "d", 1.0),
            }
            assert await store.count() == 2
            assert await store.delete("given up") is True
            assert await store.delete("d") is True
            assert await everything(store) == []
    assert set(server.keys) == {"k@y"}


async def test_away_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    """A store whose server is away opens with one log line; each call says that it is away."""
    caplog.set_level(logging.INFO, "app")
    address = NOWHERE.replace("//", "//secret@")
    async with asyncio.timeout(LONG), QdrantStore(address, model=MODEL) as store:
        (line,) = caplog.messages
        for call in (store.count(), store.unfinished(), submit(store), found(store)):
            with pytest.raises(StoreUnavailableError, match="localhost:1") as error:
                await call
            assert error.value.retry_after is not None
    assert caplog.messages == [line]
    assert "localhost:1" in line
    assert "secret" not in line


async def test_back_again(server: QdrantServer) -> None:
    """The first call after the server has come, or come back, does what it is asked."""
    async with asyncio.timeout(LONG), server.running() as url:
        server.trouble = answering(503)
        async with QdrantStore(url, model=MODEL) as store:
            with pytest.raises(StoreUnavailableError):
                await submit(store)
            server.trouble = None
            await store_passages(store, "d", passages("a"))
            server.trouble = answering(503)
            with pytest.raises(StoreUnavailableError):
                await found(store)
            server.trouble = None
            assert await found(store) == {"a"}


async def test_another_model_found_out_later(server: QdrantServer) -> None:
    """A model that could not be checked at the start is checked by the first call that can."""
    async with asyncio.timeout(LONG), server.running() as url:
        async with QdrantStore(url, model="model-a") as store:
            await store_passages(store, "d", passages("a"))
        server.trouble = answering(503)
        async with QdrantStore(url, model="model-b") as store:
            server.trouble = None
            for _ in range(2):
                with pytest.raises(EmbeddingMismatchError, match=r"model-a.*model-b"):
                    await submit(store)


async def test_one_attempt_for_all(server: QdrantServer) -> None:
    """However many calls come while the server is silent, all wait for one attempt, and no more."""
    gate = asyncio.Event()
    async with asyncio.timeout(LONG), server.running() as url:
        server.trouble = silent_until(gate)
        async with QdrantStore(url, model=MODEL, setup_timeout=SHORT) as store:
            assert len(server.keys) == 1
            calls = [store.document(str(number)) for number in range(50)]
            for ending in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(ending, StoreUnavailableError)
                assert ending.retry_after is not None
            assert len(server.keys) == 2
        gate.set()


async def test_whoever_waits_goes_on(server: QdrantServer) -> None:
    """A call that is cancelled while it sets up leaves that to the next that waits."""
    gate = asyncio.Event()
    async with asyncio.timeout(LONG), server.running() as url:
        server.trouble = answering(503)
        async with QdrantStore(url, model=MODEL) as store:
            server.trouble = silent_until(gate)
            first = asyncio.create_task(store.count())
            while len(server.keys) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0)
            second = asyncio.create_task(store.count())
            await asyncio.sleep(0)
            server.trouble = None
            first.cancel()
            assert await second == 0
            assert first.cancelled()
        gate.set()


@pytest.mark.parametrize(
    ("trouble", "says", "retry_after"),
    [
        (answering(500, '{"status": {"error": "disk full"}}'), "500 disk full", 1.0),
        (answering(502, "<html>"), "502 Bad Gateway", 1.0),
        (answering(408), "408", 1.0),
        (answering(429), "429", 1.0),
        (answering(429, "", {"Retry-After": "17"}), "Exhausted", 17),
        (answering(429, "", {"Retry-After": "soon"}), "soon", 1.0),
        (answering(200, "<html>"), "no JSON", 1.0),
        (answering(200, '{"result": 1}'), "ValidationError", 1.0),
    ],
)
async def test_unavailable(
    server: QdrantServer, trouble: Trouble, says: str, retry_after: float
) -> None:
    """What may heal is an unavailable store, in one line with the server and what it said."""
    async with asyncio.timeout(LONG), server.running() as url, QdrantStore(url, model=MODEL) as one:
        server.trouble = trouble
        with pytest.raises(StoreUnavailableError, match=says) as error:
            await one.document("d")
    assert error.value.retry_after == retry_after
    assert url in str(error.value)
    assert "\n" not in str(error.value)


async def test_deadline(server: QdrantServer) -> None:
    """A server that does not answer is an unavailable store."""
    gate = asyncio.Event()
    async with asyncio.timeout(LONG), server.running() as url:
        server.trouble = silent_until(gate)
        async with QdrantStore(url, model=MODEL, timeout=SHORT) as store:
            with pytest.raises(StoreUnavailableError, match="no answer within"):
                await found(store)
        gate.set()


async def test_closed_with_a_request_in_flight(server: QdrantServer) -> None:
    """A request that meets the closing is an unavailable store, at once."""
    gate = asyncio.Event()
    async with asyncio.timeout(LONG), server.running() as url:
        async with QdrantStore(url, model=MODEL, timeout=2 * LONG) as store:
            server.trouble, before = silent_until(gate), len(server.keys)
            calls = [asyncio.create_task(store.count()) for _ in range(3)]
            while len(server.keys) < before + 3:  # noqa: ASYNC110
                await asyncio.sleep(0)
        for ending in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(ending, StoreUnavailableError)
        gate.set()


@pytest.mark.parametrize("status", [401, 403])
async def test_wrong_key(server: QdrantServer, status: int) -> None:
    """A key that is refused ends the start with a line that says so, and does not show it."""
    server.trouble = answering(status, "Invalid API key: secret")
    async with asyncio.timeout(LONG), server.running() as url:
        refused = QdrantStore(url.replace("//", "//secret@"), model=MODEL)
        with pytest.raises(StoreError, match="refuses the API key") as error:
            await refused.__aenter__()
    assert not isinstance(error.value, StoreUnavailableError)
    assert "secret" not in str(error.value)
