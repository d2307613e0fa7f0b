"""Who may ask: API keys, what they guard, and who a client without one is."""

import asyncio
import json
from typing import Any

import openai
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from app.clients import client_at
from app.main import create_app
from app.settings import load_settings
from tests.service import PATIENCE, QUESTION, ROUTES, at_upstream, error_of, serve
from tests.upstream import FakeUpstream

SECRET = "sk-very-secret"
BAD_KEYS = [
    SECRET,
    f":{SECRET}",
    "alice:",
    f"alice smith:{SECRET}",
    f"al/ice:{SECRET}",
    f"alice: {SECRET}",
    f"alice:{SECRET}é",
    f"alice:{SECRET},alice:another",
    f"alice:{SECRET},bob:{SECRET}",
    f"alice:good,{SECRET}",
]
PUBLIC = {
    "/", "/page.css", "/page.js", "/livez", "/health", "/readyz", "/metrics",
    "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json",
}  # fmt: skip
KEY = "sk-very-secret-of-alice"
KEYS = f"alice:{KEY},bob:sk-of-bob"
NO_KEY: list[dict[str, Any]] = [
    {},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer alice"},
    {"Authorization": KEY},
    {"Authorization": f"Basic {KEY}"},
    {"Authorization": f"Bearer {KEY[:-1]}"},
    {"Authorization": f"Bearer {KEY.upper()}"},
    {"Authorization": f"Bearer {KEY},sk-of-bob"},
    {"Authorization": b"Bearer sk-\xe4"},
    {"X-API-Key": KEY},
]


@pytest.mark.parametrize("keys", BAD_KEYS)
def test_bad_keys_are_one_line_without_a_key(keys: str) -> None:
    """A bad entry ends the start with one line that names the variable and shows no key."""
    with pytest.raises(SystemExit) as ended:
        load_settings(_env_file=None, api_keys=keys)
    (line,) = str(ended.value).splitlines()
    assert "API_KEYS" in line
    assert SECRET not in line


def test_keys_are_read() -> None:
    """Keys may hold colons and equal signs; blanks and empty entries do not count."""
    settings = load_settings(_env_file=None, api_keys=" alice:sk:a= , bob-2.x_y:b ,carol:c,")
    keys = {name: key.get_secret_value() for name, key in settings.api_keys.items()}
    assert keys == {"alice": "sk:a=", "bob-2.x_y": "b", "carol": "c"}


def bearer(key: str) -> dict[str, str]:
    """Return the header that a client sends its key in."""
    return {"Authorization": f"Bearer {key}"}


def guarded(app: FastAPI) -> set[tuple[str, str]]:
    """List method and path of every route that is not on the public list."""
    return {
        (method, str(route.path))
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
        if route.path not in PUBLIC
    }


@pytest.mark.parametrize("length", ["Content-Length: 22000000", "Transfer-Encoding: chunked"])
async def test_every_route_is_guarded_or_public(length: str) -> None:
    """Without a key no route that is not public waits for a body, also not for a long one."""
    async with serve(api_keys=KEYS) as service:
        routes = guarded(create_app(service.services.settings))
        for method, path in sorted(routes):
            head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            async with (
                service.sending(f"{head}{length}\r\n\r\n".encode()) as answer,
                asyncio.timeout(PATIENCE),
            ):
                assert (await answer.readline()).startswith(b"HTTP/1.1 401 "), (method, path)
    assert routes >= {("POST", path) for path, _ in ROUTES} | {
        ("GET", "/v1/models"),
        ("POST", "/documents"),  # optional: vector_store
    }


async def test_without_a_known_key_it_is_401(upstream: FakeUpstream) -> None:
    """No key or a wrong one is 401, with the scheme that is wanted, before anything else."""
    async with serve(**at_upstream(upstream, api_keys=KEYS)) as service:
        client = service.client
        for headers in NO_KEY:
            for path, body in ROUTES:
                refused = await client.post(path, json=body, headers=headers)
                code = "invalid_api_key" if path.startswith("/v1") else "unauthorized"
                assert (refused.status_code, error_of(refused)["code"]) == (401, code)
                assert refused.headers["www-authenticate"] == "Bearer"
            assert (await client.get("/v1/models", headers=headers)).status_code == 401
        with pytest.raises(openai.AuthenticationError):
            await service.openai.models.list()
        assert service.services.limiter.snapshot().released == 0
    assert upstream.counts.received == 0


async def test_each_key_opens_every_route(upstream: FakeUpstream) -> None:
    """Each of the keys passes; the provider gets the service's own key, not the client's."""
    async with serve(**at_upstream(upstream, api_keys=KEYS)) as service:
        for key in (KEY, "sk-of-bob"):
            for path, body in ROUTES:
                answer = await service.client.post(path, json=body, headers=bearer(key))
                assert answer.status_code == 200
            assert (await service.openai.with_options(api_key=key).models.list()).data
    sent = str([request.headers for request in upstream.requests])
    assert sent.count("sk-secret-of-the-service") == 2 * len(ROUTES) + 2
    assert KEY not in sent
    assert "sk-of-bob" not in sent


async def test_without_keys_it_is_open() -> None:
    """A service without API_KEYS answers everybody, whatever key they send."""
    async with serve() as service:
        for headers in NO_KEY:
            response = await service.client.post("/chat", json=QUESTION, headers=headers)
            assert response.status_code == 200


async def test_name_is_seen_and_key_never(capsys: pytest.CaptureFixture[str]) -> None:
    """Log lines name the client; neither they, the metrics nor a refusal show a key."""
    async with serve(api_keys=KEYS, client_rate_limit_requests=1) as service:
        asked = [(KEY, 200), (KEY, 429), ("sk-unknown", 401)]
        seen = []
        for key, status in asked:
            answer = await service.client.post(
                "/v1/chat/completions", json=QUESTION, headers=bearer(key)
            )
            assert answer.status_code == status
            seen.append(str(answer.headers) + answer.text)
        seen.append((await service.client.get("/metrics")).text)
    seen.append(capsys.readouterr().err)
    lines = [json.loads(line) for line in seen[-1].splitlines()]
    clients = [line.get("client") for line in lines if line["event"] == "request"]
    assert clients[:3] == ["alice", "alice", None]
    assert not any(key in text for key in (KEY, "sk-unknown") for text in seen)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1::7", "2001:db8:0:1::/64"),
        ("2001:DB8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::7", "2001:db8:0:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:8000", "unknown"),
        ("someone\nelse", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_client_is_its_address(address: str | None, name: str) -> None:
    """An IPv4 client is its address, an IPv6 client its /64: it has all addresses of it."""
    assert client_at(address).name == f"address:{name}"
