"""The one HTTP client: what the service does with it, and what it never does."""

from contextlib import nullcontext

import httpx
import pytest

from app.http.client import build_http_client
from tests.service import COMPLETION, EMBEDDING, QUESTION, at_upstream, serve
from tests.upstream import FakeUpstream, Script


async def test_connections_are_used_again(upstream: FakeUpstream) -> None:
    """Requests of every kind share one connection, without cookies, until the service stops."""
    upstream.script = Script(headers={"set-cookie": "session=of-one-user; path=/"})
    # By name: cookie jars pass over the cookies of bare addresses.
    by_name = upstream.base_url.replace("127.0.0.1", "localhost")
    async with serve(**at_upstream(upstream, openai_base_url=by_name)) as service:
        for path, body in [
            ("/chat", QUESTION),
            ("/v1/chat/completions", {**COMPLETION, "stream": True}),
            ("/v1/chat/completions", COMPLETION),
            ("/v1/embeddings", EMBEDDING),
        ] * 2:
            assert (await service.client.post(path, json=body)).status_code == 200
        assert upstream.counts.connections == upstream.counts.open_connections == 1
        assert list(service.services.http.cookies.jar) == []
    assert all("cookie" not in request.headers for request in upstream.requests)
    await upstream.wait_until(lambda counts: counts.open_connections == 0)


async def test_redirects_are_not_followed(upstream: FakeUpstream) -> None:
    """A provider cannot send the service, and its key, elsewhere; only connecting is timed."""
    upstream.script = Script(status=307, headers={"location": "/v1/models"})
    async with build_http_client(max_connections=1, connect_timeout=20) as client:
        response = await client.post(f"{upstream.base_url}/embeddings", json=EMBEDDING)
        assert client.timeout == httpx.Timeout(None, connect=20, pool=20)
    assert (response.status_code, upstream.counts.received) == (307, 1)


@pytest.mark.parametrize("without", ["", "provider.invalid", "invalid", "::1, .invalid", "*"])
async def test_proxy_is_taken_from_the_environment(
    upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    """Hosts are reached through the proxy that the environment names, but those of NO_PROXY."""
    monkeypatch.setenv("HTTP_PROXY", upstream.origin.removeprefix("http://"))
    monkeypatch.setenv("NO_PROXY", without)
    async with build_http_client(max_connections=1, connect_timeout=20) as client:
        with pytest.raises(httpx.ConnectError) if without else nullcontext():
            await client.get("http://provider.invalid/v1/models")
    hosts = [request.headers["host"] for request in upstream.requests]
    assert hosts == ([] if without else ["provider.invalid"])
