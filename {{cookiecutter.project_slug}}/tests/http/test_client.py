"""The one HTTP client: connections are kept, cookies are not."""

import asyncio

import pytest

from app.http.client import build_http_client
from tests.service import COMPLETION, EMBEDDING, QUESTION, at_upstream, serve
from tests.upstream import Action, FakeUpstream, Script


async def test_connections_are_used_again(upstream: FakeUpstream) -> None:
    """One after the other, requests of every kind share one connection to the provider."""
    async with serve(**at_upstream(upstream)) as service:
        for path, body in [
            ("/chat", QUESTION),
            ("/v1/chat/completions", {**COMPLETION, "stream": True}),
            ("/v1/chat/completions", COMPLETION),
            ("/v1/embeddings", EMBEDDING),
        ] * 2:
            assert (await service.client.post(path, json=body)).status_code == 200
        assert upstream.counts.connections == 1


async def test_connection_of_a_client_that_left_is_not(upstream: FakeUpstream) -> None:
    """A connection with half an answer on it is closed, not kept."""
    upstream.script = Script(before_event={2: Action.HOLD})
    async with serve(**at_upstream(upstream)) as service:
        async with service.stream() as events:
            await anext(events)
        await upstream.wait_until(lambda counts: counts.open_connections == 0)
        upstream.script = Script()
        assert (await service.chat())[-1].name == "done"
        assert upstream.counts.connections == 2


async def test_pool_is_not_smaller_than_the_ceiling(upstream: FakeUpstream) -> None:
    """As many calls as the ceiling allows are at the provider at once, none waits for the pool."""
    upstream.script = Script(before_event={2: Action.HOLD})
    settings = at_upstream(upstream, llm_max_concurrency=150, llm_timeout_connect=1)
    async with serve(**settings) as service, asyncio.TaskGroup() as clients:
        answers = [clients.create_task(service.chat()) for _ in range(150)]
        await upstream.wait_live(150)
        upstream.release()
    assert {answer.result()[-1].name for answer in answers} == {"done"}


async def test_connections_close_with_the_service(upstream: FakeUpstream) -> None:
    """A service that has stopped leaves no connection behind."""
    async with serve(**at_upstream(upstream)) as service:
        await service.chat()
        assert upstream.counts.open_connections == 1
    await upstream.wait_until(lambda counts: counts.open_connections == 0)


async def test_cookies_are_never_kept(upstream: FakeUpstream) -> None:
    """A cookie that the provider sets for one user is not sent for the next."""
    upstream.script = Script(headers={"set-cookie": "session=of-one-user; path=/"})
    # By name: cookie jars pass over the cookies of bare addresses.
    by_name = upstream.base_url.replace("127.0.0.1", "localhost")
    async with serve(**at_upstream(upstream, openai_base_url=by_name)) as service:
        for _ in range(2):
            await service.chat()
            await service.client.post("/v1/embeddings", json=EMBEDDING)
        assert list(service.services.http.cookies.jar) == []
    assert all("cookie" not in request.headers for request in upstream.requests)


async def test_slow_answer_is_no_timeout_of_the_client(upstream: FakeUpstream) -> None:
    """The time to connect does not limit the time to answer."""
    upstream.script = Script(first_token_delay=2, tokens=2)
    async with serve(**at_upstream(upstream, llm_timeout_connect=1.5)) as service:
        assert (await service.chat())[-1].name == "done"


async def test_redirects_are_not_followed(upstream: FakeUpstream) -> None:
    """A provider cannot send the service, and its key, elsewhere."""
    upstream.script = Script(status=307, headers={"location": "/v1/models"})
    async with build_http_client(max_connections=1, connect_timeout=20) as client:
        response = await client.post(f"{upstream.base_url}/embeddings", json=EMBEDDING)
    assert response.status_code == 307
    assert upstream.counts.received == 1


async def test_proxy_is_taken_from_the_environment(
    upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the network asks for a proxy, the provider is asked through it."""
    monkeypatch.setenv("HTTP_PROXY", upstream.origin)
    async with build_http_client(max_connections=1, connect_timeout=20) as client:
        await client.get("http://provider.invalid/v1/models")
    assert upstream.requests[0].headers["host"] == "provider.invalid"
