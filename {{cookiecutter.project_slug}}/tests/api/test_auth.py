"""API keys: how they are read, and that every route that costs money needs one."""

import asyncio
import json
from typing import Any

import openai
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from pydantic import SecretStr

from app.clients import Client, Keyring
from app.main import create_app
from app.settings import load_settings
from tests.service import (
    COMPLETION,
    EMBEDDING,
    PATIENCE,
    QUESTION,
    at_upstream,
    error_of,
    serve,
)
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


def refusal(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    """Return what the start ends with under these variables."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        load_settings(_env_file=None)
    return str(ended.value)


@pytest.mark.parametrize("keys", BAD_KEYS)
def test_bad_keys_are_one_line_without_a_key(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    """A bad entry ends the start with one line that names the variable and shows no key."""
    line = refusal(monkeypatch, API_KEYS=keys)
    assert "API_KEYS" in line
    assert len(line.splitlines()) == 1
    assert SECRET not in line


def test_keys_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys may hold colons and equal signs; blanks and empty entries do not count."""
    monkeypatch.setenv("API_KEYS", " alice:sk:a= , bob-2.x_y:b ,carol:c,")
    settings = load_settings(_env_file=None)
    keys = {name: key.get_secret_value() for name, key in settings.api_keys.items()}
    assert keys == {"alice": "sk:a=", "bob-2.x_y": "b", "carol": "c"}


def test_no_keys_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without keys the service is open to all; a single one closes it."""
    assert Keyring(load_settings(_env_file=None).api_keys).is_open
    monkeypatch.setenv("API_KEYS", "alice:a")
    assert not Keyring(load_settings(_env_file=None).api_keys).is_open


def test_keyring_finds_the_client_of_a_key() -> None:
    """A key leads to its own client; a part of one, or another, to none."""
    keys = {"alice": SecretStr("key-a"), "bob": SecretStr("key-b")}
    keyring = Keyring(keys)
    assert keyring.client_with("key-a") == Client("alice")
    assert keyring.client_with("key-b") == Client("bob")
    for wrong in ("", "key", "key-a ", "KEY-A", "alice", "key-ä", "key-a,key-b"):
        assert keyring.client_with(wrong) is None


def test_keyring_shows_no_key() -> None:
    """Nothing that a debugger or a log would print of a keyring has a key in it."""
    keyring = Keyring({"alice": SecretStr(SECRET)})
    assert "alice" in repr(vars(keyring))
    assert SECRET not in repr(vars(keyring))


PUBLIC = {
    "/", "/page.css", "/page.js", "/livez", "/readyz", "/metrics",
    "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json",
}  # fmt: skip
KEY = "sk-very-secret-of-alice"
KEYS = f"alice:{KEY},bob:sk-of-bob"
POSTS = [
    ("/chat", QUESTION),
    ("/v1/chat/completions", {**COMPLETION, "stream": True}),
    ("/v1/chat/completions", COMPLETION),
    ("/v1/embeddings", EMBEDDING),
]
UNAUTHORIZED = [(401, "unauthorized"), (401, "invalid_api_key")]
NO_KEY: list[dict[str, str]] = [
    {},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer wrong"},
    {"Authorization": KEY},
    {"Authorization": f"Basic {KEY}"},
    {"Authorization": f"Bearer {KEY[:-1]}"},
    {"X-API-Key": KEY},
]


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


async def test_every_route_is_guarded_or_public() -> None:
    """A route that is not on the short public list wants a key, whatever is asked of it."""
    async with serve(api_keys=KEYS) as service:
        routes = guarded(create_app(service.services.settings))
        assert routes >= {("POST", path) for path, _ in POSTS} | {
            ("GET", "/v1/models"),
            ("POST", "/documents"),  # optional: vector_store
        }
        answers = {
            route: (await service.client.request(*route, json={})).status_code for route in routes
        }
    assert answers == dict.fromkeys(routes, 401)


@pytest.mark.parametrize("announced", ["length", "chunks"])
async def test_nothing_is_read_for_a_stranger(announced: str) -> None:
    """Without a key no route waits for a body, be it announced as too large or of no length."""
    length = {"length": "Content-Length: 22000000", "chunks": "Transfer-Encoding: chunked"}
    async with serve(api_keys=KEYS) as service:
        for method, path in sorted(guarded(create_app(service.services.settings))):
            head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            reader, writer = await asyncio.open_connection(service.host, service.port)
            writer.write(f"{head}{length[announced]}\r\n\r\n".encode())
            async with asyncio.timeout(PATIENCE):
                status = await reader.readline()
            writer.close()
            assert status.startswith(b"HTTP/1.1 401 "), (method, path)


@pytest.mark.parametrize("body", [b"{", b'{"a": "\xff"}', b"[" * 10_000, b"x" * 2000])
async def test_the_key_is_judged_before_the_body(body: bytes) -> None:
    """A body that is bad in every way is 401 without a key, and what it is with one."""
    async with serve(api_keys=KEYS, max_body_bytes=150_000) as service:
        for path, _ in POSTS:
            headers = {"content-type": "application/json"}
            refused = await service.client.post(path, content=body, headers=headers)
            known = await service.client.post(path, content=body, headers=headers | bearer(KEY))
            assert refused.status_code == 401
            assert known.status_code == (400 if path.startswith("/v1") else 422)


async def test_a_new_route_is_not_overlooked() -> None:
    """The walk sees every route, also one that a router brings, hidden from the schema."""
    app, router = FastAPI(), APIRouter(prefix="/new", include_in_schema=False)
    router.add_api_route("/{id}", lambda: None, methods=["DELETE"])
    app.include_router(router)
    assert guarded(app) == {("DELETE", "/new/{id}")}


async def test_without_a_known_key_it_is_401(upstream: FakeUpstream) -> None:
    """No key or a wrong one is 401, with the scheme that is wanted, before anything else."""
    async with serve(**at_upstream(upstream, api_keys=KEYS)) as service:
        answers = [
            await service.client.post(path, json=body, headers=headers)
            for path, body in POSTS
            for headers in NO_KEY
        ]
        answers += [await service.client.get("/v1/models", headers=header) for header in NO_KEY]
        assert service.services.limiter.snapshot().released == 0
    for response in answers:
        assert (response.status_code, error_of(response)["code"]) in UNAUTHORIZED
        assert response.headers["www-authenticate"] == "Bearer"
    assert upstream.counts.received == 0


async def test_openai_client_says_authentication_error(upstream: FakeUpstream) -> None:
    """OpenAI's client raises what it would at OpenAI; with the right key it is answered."""
    async with serve(**at_upstream(upstream, api_keys=KEYS)) as service:
        with pytest.raises(openai.AuthenticationError):
            await service.openai.models.list()
        known = service.openai.with_options(api_key=KEY)
        assert (await known.models.list()).data


async def test_each_key_opens_every_route(upstream: FakeUpstream) -> None:
    """Each of the keys passes; the provider gets the service's own key, not the client's."""
    async with serve(**at_upstream(upstream, api_keys=KEYS)) as service:
        answers = [
            await service.client.post(path, json=body, headers=bearer(key))
            for path, body in POSTS
            for key in (KEY, "sk-of-bob")
        ]
        answers.append(await service.client.get("/v1/models", headers=bearer(KEY)))
    assert {response.status_code for response in answers} == {200}
    assert len(upstream.requests) == len(answers)
    sent = str([request.headers for request in upstream.requests])
    assert KEY not in sent
    assert "sk-of-bob" not in sent


async def test_without_keys_it_is_open() -> None:
    """A service without API_KEYS answers everybody, whatever key they send."""
    async with serve() as service:
        for headers in NO_KEY:
            response = await service.client.post("/chat", json=QUESTION, headers=headers)
            assert response.status_code == 200


async def test_name_is_seen_and_key_never(
    upstream: FakeUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    """Log lines name the client; neither they, the metrics nor a refusal show a key."""
    settings = at_upstream(upstream, api_keys=KEYS, client_rate_limit_requests=1)
    async with serve(**settings) as service:
        seen = [(await service.client.post("/chat", json=QUESTION, headers=bearer(KEY))).text]
        refused = await service.client.post("/chat", json=QUESTION, headers=bearer(KEY))
        unknown = await service.client.post("/chat", json=QUESTION, headers=bearer("sk-unknown"))
        seen += [str(r.headers) + r.text for r in (refused, unknown)]
        seen.append((await service.client.get("/metrics")).text)
    assert (refused.status_code, unknown.status_code) == (429, 401)
    logged = capsys.readouterr().err
    lines: list[dict[str, Any]] = [json.loads(line) for line in logged.splitlines()]
    clients = [line.get("client") for line in lines if line["event"] == "request"]
    assert clients == ["alice", "alice", None]
    assert not any(key in text for key in (KEY, "sk-unknown") for text in [logged, *seen])
