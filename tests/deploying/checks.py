"""What docs/deploying.md promises of a proxy; run inside a project, with the text's snippets."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.service import LOCALHOST, QUESTION, RunningService, at_upstream, events_of, serve
from tests.upstream import Action, FakeUpstream, Script

SNIPPETS = json.loads(Path("snippets.json").read_text("utf-8"))
LISTENS = {"nginx": "listen 80;", "caddy": "llm.example.com {"}
"""Where a snippet names the address of the proxy."""
COMMANDS = {
    "nginx": ["nginx", "-p", ".", "-c", "config"],
    "caddy": [
        str(Path(sys.executable).parent / "caddy"),
        *("run", "--config", "config", "--adapter", "caddyfile"),
    ],
}
CONFIGURATIONS = {
    "nginx": """
        daemon off; master_process off; pid nginx.pid; error_log stderr;
        events {} http {
            access_log off; client_body_temp_path body; proxy_temp_path proxy;
            fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            SNIPPET
        }""",
    "caddy": "{\n admin off\n persist_config off\n}\nSNIPPET",
}


@pytest.fixture(params=SNIPPETS)
def proxy(request: pytest.FixtureRequest) -> str:
    """Name a proxy that has a snippet."""
    name: str = request.param
    return name


@asynccontextmanager
async def behind(
    proxy: str, folder: Path, upstream: FakeUpstream, **settings: Any
) -> AsyncIterator[tuple[RunningService, str]]:
    """Run the service, and the proxy in front of it by its snippet; give the proxy's address."""
    with socket.socket() as free:
        free.bind((LOCALHOST, 0))
        port = free.getsockname()[1]
    listens = {"nginx": f"listen {LOCALHOST}:{port};", "caddy": f"http://{LOCALHOST}:{port} {{"}
    async with serve(**at_upstream(upstream, **settings)) as service:
        config = CONFIGURATIONS[proxy].replace("SNIPPET", SNIPPETS[proxy])
        for old, new in (
            (LISTENS[proxy], listens[proxy]),
            ("127.0.0.1:8000", f"{LOCALHOST}:{service.port}"),
        ):
            assert config.count(old) == 1
            config = config.replace(old, new)
        (folder / "config").write_text(config, "utf-8")
        process = await asyncio.create_subprocess_exec(*COMMANDS[proxy], cwd=folder)
        try:
            url = f"http://{LOCALHOST}:{port}"
            await answering(url)
            yield service, url
        finally:
            process.terminate()
            await process.wait()


async def answering(url: str) -> None:
    """Wait until the service answers through the proxy."""
    async with asyncio.timeout(20), httpx.AsyncClient(trust_env=False) as client:
        while True:
            try:
                (await client.get(f"{url}/readyz")).raise_for_status()
            except httpx.HTTPError:
                await asyncio.sleep(0.01)
            else:
                return


def client_at(url: str, address: str = LOCALHOST) -> httpx.AsyncClient:
    """Build a client that connects from this address of the machine."""
    transport = httpx.AsyncHTTPTransport(local_address=address)
    return httpx.AsyncClient(base_url=url, transport=transport, timeout=20)


async def test_tokens_arrive_one_by_one(proxy: str, upstream: FakeUpstream, tmp_path: Path) -> None:
    """Each token comes through while the provider still holds the next."""
    upstream.script = Script(tokens=3, before_event={2: Action.HOLD, 3: Action.HOLD})
    async with behind(proxy, tmp_path, upstream) as (_, url), client_at(url) as client:
        names = []
        async with client.stream("POST", "/chat", json=QUESTION) as response:
            async for event in events_of(response):
                names.append(event.name)
                if names in (["token"], ["token"] * 2):
                    await upstream.wait_held(1)
                    upstream.release()
    assert names == ["token"] * 3 + ["usage", "done"]


async def test_an_abort_reaches_the_provider(
    proxy: str, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """When the client goes, the provider's request is closed and the slot is free."""
    upstream.script = Script(tokens=3, before_event={2: Action.HOLD})
    async with behind(proxy, tmp_path, upstream) as (service, url):
        async with client_at(url) as client, client.stream("POST", "/chat", json=QUESTION) as reply:
            await anext(events_of(reply))
        await upstream.wait_aborted(1)
        await service.idle()


async def test_a_large_body_passes(proxy: str, upstream: FakeUpstream, tmp_path: Path) -> None:
    """The service judges bodies of megabytes, as images need, and not the proxy."""
    question = {"messages": [], "images": "x" * 2_000_000}
    async with behind(proxy, tmp_path, upstream) as (_, url), client_at(url) as client:
        assert (await client.post("/chat", json=question)).status_code == 422


async def test_a_client_is_its_address(proxy: str, upstream: FakeUpstream, tmp_path: Path) -> None:
    """A client's limit is its own behind the proxy, whatever address it claims."""
    settings = {"client_rate_limit_requests": 1}
    statuses = []
    async with behind(proxy, tmp_path, upstream, **settings) as (_, url):
        for address, claim in (("127.0.1.1", "a"), ("127.0.1.1", "b"), ("127.0.1.2", "c")):
            async with client_at(url, address) as client:
                headers = {"X-Forwarded-For": claim}
                response = await client.post("/chat", json=QUESTION, headers=headers)
                statuses.append(response.status_code)
    assert statuses == [200, 429, 200]


async def test_metrics_are_not_public(proxy: str, upstream: FakeUpstream, tmp_path: Path) -> None:
    """The proxy keeps the metrics to itself."""
    async with behind(proxy, tmp_path, upstream) as (_, url), client_at(url) as client:
        assert (await client.get("/metrics")).status_code == 404
