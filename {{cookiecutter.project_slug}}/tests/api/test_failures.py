"""What a client is told when the answer cannot begin: a status of its own, and why."""

import socket

import httpx
import pytest

from tests.service import (
    COMPLETION,
    EMBEDDING,
    QUESTION,
    SERVICE_KEY,
    RunningService,
    at_upstream,
    error_of,
    serve,
)
from tests.upstream import Action, FakeUpstream, Script

ROUTES = (
    ("/chat", QUESTION),
    ("/v1/chat/completions", {**COMPLETION, "stream": True}),
    ("/v1/chat/completions", COMPLETION),
    ("/v1/embeddings", EMBEDDING),
)
AT_ONCE = {"retry-after-ms": "0"}
"""The provider's advice that lets the service try again without a pause."""


async def on_every_route(service: RunningService) -> list[httpx.Response]:
    """Ask on each route that needs the provider, one after the other."""
    return [await service.client.post(path, json=body) for path, body in ROUTES]


@pytest.mark.parametrize(
    ("status", "headers", "own_status", "kind"),
    [
        (429, {"retry-after": "17"}, 429, "provider_rate_limited"),
        (503, AT_ONCE, 503, "provider_overloaded"),
        (529, AT_ONCE, 503, "provider_overloaded"),
        (500, AT_ONCE, 502, "provider_unavailable"),
        (401, {}, 502, "provider_authentication"),
        (403, {}, 502, "provider_authentication"),
    ],
)
async def test_provider_status_decides(
    upstream: FakeUpstream, status: int, headers: dict[str, str], own_status: int, kind: str
) -> None:
    """What the provider says no with decides status and type, the same on every route."""
    upstream.script = Script(status=status, headers=headers)
    async with serve(**at_upstream(upstream)) as service:
        refused = await on_every_route(service)
        assert service.in_flight == 0
    assert {response.status_code for response in refused} == {own_status}
    assert {error_of(response)["type"] for response in refused} == {kind}


async def test_rate_limit_carries_the_providers_advice(upstream: FakeUpstream) -> None:
    """A 429 says when to come back: in whole seconds, rounded up, and exactly in the body."""
    upstream.script = Script(status=429, headers={"retry-after-ms": "16200"})
    async with serve(**at_upstream(upstream)) as service:
        for response in await on_every_route(service):
            assert response.headers["retry-after"] == "17"
            assert error_of(response)["retry_after"] == 16.2


async def test_refusal_that_can_heal_always_says_when(upstream: FakeUpstream) -> None:
    """A 429 or 503 has a Retry-After also where the provider gave none."""
    async with serve(**at_upstream(upstream)) as service:
        for status in (429, 503):
            upstream.script = Script(status=status)
            response = await service.client.post("/chat", json=QUESTION)
            assert response.status_code == status
            assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("status", "own_status"), [(400, 400), (404, 404), (413, 413), (422, 422), (409, 400)]
)
async def test_rejection_passes_the_providers_words_on(
    upstream: FakeUpstream, status: int, own_status: int
) -> None:
    """A request that the provider rejects is a 422 with its words; `/v1` keeps the status, too."""
    upstream.script = Script(status=status)
    async with serve(**at_upstream(upstream)) as service:
        chat, *openai = await on_every_route(service)
    assert (chat.status_code, error_of(chat)["type"]) == (422, "invalid_request")
    assert {response.status_code for response in openai} == {own_status}
    assert {error_of(response)["type"] for response in openai} == {"invalid_request_error"}
    words = {400: "maximum context length is 128000 tokens", 404: "Invalid URL"}
    fields = {400: ("messages", "context_length_exceeded")}
    for error in map(error_of, openai):
        assert words.get(status, "server had an error") in error["message"]
        assert (error["param"], error["code"]) == fields.get(status, (None, None))


async def test_refused_credentials_stay_secret(upstream: FakeUpstream) -> None:
    """When the provider refuses the service's key, no client sees it or the words about it."""
    upstream.script = Script(status=401)
    async with serve(**at_upstream(upstream)) as service:
        for response in await on_every_route(service):
            assert SERVICE_KEY in upstream.requests[-1].headers["authorization"]
            assert SERVICE_KEY not in response.text
            assert "Incorrect API key" not in response.text


@pytest.mark.parametrize("action", [Action.CUT, Action.RESET])
async def test_cut_before_the_first_token_is_502(upstream: FakeUpstream, action: Action) -> None:
    """A provider that hangs up before it has said anything is a bad gateway."""
    upstream.script = Script(before_event={1: action})
    async with serve(**at_upstream(upstream)) as service:
        response = await service.client.post("/chat", json=QUESTION)
    assert response.status_code == 502
    assert error_of(response)["type"] in {"provider_broken_stream", "provider_unavailable"}


async def test_unreachable_provider_is_502() -> None:
    """A provider that refuses connections is a bad gateway."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings = {"llm_provider": "openai", "openai_base_url": f"http://127.0.0.1:{port}/v1"}
    async with serve(**settings) as service:
        response = await service.client.post("/v1/embeddings", json=EMBEDDING)
    assert response.status_code == 502
    assert error_of(response)["type"] == "provider_unavailable"


@pytest.mark.parametrize(
    "script",
    [
        Script(before_headers=Action.HOLD),
        Script(before_event={0: Action.HOLD}),
        Script(before_event={1: Action.HOLD}),
    ],
    ids=["headers", "body", "token"],
)
async def test_silent_provider_is_504(upstream: FakeUpstream, script: Script) -> None:
    """A provider that is silent until the first-token deadline is a gateway timeout."""
    upstream.script = script
    async with serve(**at_upstream(upstream, llm_timeout_first_token=0.05)) as service:
        for path, body in ROUTES[:2]:
            response = await service.client.post(path, json=body)
            assert response.status_code == 504
            assert error_of(response)["type"] == "provider_timeout"
            assert "first_token deadline of 0.05 s" in error_of(response)["message"]
        await upstream.wait_live(0)


async def test_silent_plain_call_is_504(upstream: FakeUpstream) -> None:
    """A whole answer that takes longer than the total deadline is a gateway timeout."""
    upstream.script = Script(before_headers=Action.HOLD)
    async with serve(**at_upstream(upstream, llm_timeout_total=0.05)) as service:
        for path, body in ROUTES[2:]:
            response = await service.client.post(path, json=body)
            assert response.status_code == 504
            assert "total deadline of 0.05 s" in error_of(response)["message"]
        await upstream.wait_live(0)


async def test_full_queue_is_503(upstream: FakeUpstream) -> None:
    """Where no more may wait, the next is refused at once, before the provider hears of it."""
    upstream.script = Script(before_event={2: Action.HOLD})
    settings = at_upstream(upstream, llm_max_concurrency=1, llm_max_queue=0)
    async with serve(**settings) as service, service.stream() as first:
        await anext(first)
        for response in await on_every_route(service):
            assert response.status_code == 503
            assert error_of(response)["type"] == "queue_full"
            assert int(response.headers["retry-after"]) >= 1
        assert upstream.counts.received == 1


async def test_wait_that_is_too_long_is_503(upstream: FakeUpstream) -> None:
    """Whoever gets no turn within the queue timeout is told to come back later."""
    upstream.script = Script(before_event={2: Action.HOLD})
    settings = at_upstream(upstream, llm_max_concurrency=1, llm_queue_timeout=0.05)
    async with serve(**settings) as service, service.stream() as first:
        await anext(first)
        for path, body in ROUTES[1:]:
            response = await service.client.post(path, json=body)
            assert response.status_code == 503
            assert error_of(response)["type"] == "queue_timeout"
            assert int(response.headers["retry-after"]) >= 1
        assert upstream.counts.received == 1
        assert service.queued == 0
