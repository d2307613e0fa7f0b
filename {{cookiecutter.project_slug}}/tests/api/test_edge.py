"""The HTTP edge: invalid, large and slow requests get one kind of answer."""

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.api.bodies import MAX_COST, MAX_MESSAGES, MAX_TEXT
from app.drain import Drain
from tests.service import COMPLETION, QUESTION, ROUTES, at_upstream, error_of, eventually, serve
from tests.upstream import FakeUpstream

JSON = {"content-type": "application/json"}
PATHS = sorted({path for path, _ in ROUTES})
INVALID: list[tuple[str, Any, str | None]] = [
    ("/chat", {}, "messages"),
    ("/chat", {"messages": []}, "messages"),
    ("/chat", {"messages": [{"role": "user"}]}, "messages.0.content"),
    ("/chat", {"messages": [{"role": "robot", "content": ""}]}, "messages.0.role"),
    ("/chat", {**QUESTION, "temperature": 9}, "temperature"),
    ("/chat", {**QUESTION, "max_tokens": 0}, "max_tokens"),
    ("/chat", {**QUESTION, "temperatur": 1}, "temperatur"),
    ("/chat", [], None),
    ("/v1/chat/completions", {"model": "m"}, "messages"),
    ("/v1/chat/completions", {**COMPLETION, "messages": "hello"}, "messages"),
    ("/v1/chat/completions", {**COMPLETION, "messages": []}, "messages"),
    ("/v1/chat/completions", {"messages": [{}] * (MAX_MESSAGES + 1)}, "messages"),
    ("/v1/chat/completions", {**COMPLETION, "stream": "perhaps"}, "stream"),
    ("/v1/chat/completions", {**COMPLETION, "n": -2}, "n"),
    ("/v1/embeddings", {"model": "m"}, "input"),
    ("/v1/embeddings", {"model": "m", "input": 1}, "input"),
    ("/v1/embeddings", {"model": "m", "input": ["a", 1]}, "input"),
    ("/v1/embeddings", {"model": "m", "input": [["a"]]}, "input"),
    ("/v1/embeddings", {"input": "dear", "messages": [{"content": "cheap"}]}, "messages"),
]
UNREADABLE = [
    (b"", "Field required"),
    (b"{", "JSON decode error: EOF"),
    (b'{"input": "\xff"}', "invalid unicode code point"),
    (b"[" * 700, "recursion limit"),
    (b'{"user": ' + b"[" * 10_000, "recursion limit"),
    (b'{"input": "\\ud800"}', "a lone surrogate"),
    (b'{"messages": [{"role": "user", "content": "hi \\ud800 there"}]}', "a lone surrogate"),
    (b'{"tools": [{"function": {"name": "\\udc00"}}]}', "a lone surrogate"),
    (b'{"\\ud800\\ud800": 1}', "a lone surrogate"),
]
"""Bodies that are no JSON, or none that could be passed on, and what is said of them."""


def refusal_at(path: str) -> tuple[int, str]:
    """Return the status and type of the refusal of an invalid body."""
    return (422, "invalid_request") if path == "/chat" else (400, "invalid_request_error")


async def test_invalid_body_is_refused_and_names_the_field(upstream: FakeUpstream) -> None:
    """A bad body is refused with the field that is wrong, before it reaches the provider.

    So is one whose cost makes no sense: no way round a budget, no 500.
    """
    async with serve(**at_upstream(upstream, rate_limit_tokens=5000)) as service:
        for path, body, field in INVALID:
            response = await service.client.post(path, json=body)
            error = error_of(response)
            assert (response.status_code, error["type"]) == refusal_at(path)
            assert error["param"] == field
            assert error["message"].startswith(field or "Input should be")
    assert upstream.counts.received == 0


async def test_body_that_cannot_be_read_is_invalid_too() -> None:
    """What is not JSON, or JSON that cannot be passed on, is invalid, with the reason."""
    async with serve() as service:
        for path in PATHS:
            for body, reason in UNREADABLE:
                response = await service.client.post(path, content=body, headers=JSON)
                error = error_of(response)
                assert (response.status_code, error["type"]) == refusal_at(path)
                assert error["param"] is None
                assert reason in error["message"]


async def test_other_media_types_are_refused() -> None:
    """A body that is not announced as JSON is invalid, and the error names the right type."""
    async with serve() as service:
        for path in PATHS:
            for media_type in ("text/plain", "application/x-www-form-urlencoded", ""):
                headers = {"content-type": media_type}
                response = await service.client.post(path, content=b"{}", headers=headers)
                assert (response.status_code, error_of(response)["type"]) == refusal_at(path)
                assert "application/json" in error_of(response)["message"]


async def test_all_of_unicode_is_passed_on(upstream: FakeUpstream) -> None:
    """Two surrogates that are a pair are a character, and reach the provider as one."""
    body = b'{"model": "m", "input": "\\ud83d\\ude00\\u0000\\uffff"}'
    async with serve(**at_upstream(upstream)) as service:
        response = await service.client.post("/v1/embeddings", content=body, headers=JSON)
    assert response.status_code == 200
    assert upstream.requests[0].json["input"] == "\U0001f600\0\uffff"


@pytest.mark.parametrize(
    ("path", "invalid", "required", "media_types"),
    [
        ("/chat", "422", "messages", {"text/event-stream"}),
        (
            "/v1/chat/completions",
            "400",
            "messages",
            {"application/json", "text/event-stream"},
        ),
        ("/v1/embeddings", "400", "input", {"application/json"}),
    ],
)
async def test_api_is_described(
    path: str, invalid: str, required: str, media_types: set[str]
) -> None:
    """The description has what a route takes, and each status with its body."""
    async with serve() as service:
        described = (await service.client.get("/openapi.json")).json()
    schemas, operation = described["components"]["schemas"], described["paths"][path]["post"]
    (reference,) = operation["requestBody"]["content"]["application/json"]["schema"].values()
    assert schemas[reference.rpartition("/")[2]]["required"] == [required]
    responses = operation["responses"]
    assert set(responses["200"]["content"]) == media_types
    assert {invalid, "401", "413", "429", "502", "503", "504"} <= responses.keys()
    (reference,) = responses[invalid]["content"]["application/json"]["schema"].values()
    assert reference.endswith("/ErrorBody")
    assert set(schemas["ErrorDetail"]["required"]) == {"type", "message", "code", "param"}
    assert "HTTPValidationError" not in str(described)


async def test_too_large_body_is_413() -> None:
    """A body over the limit is refused, whether its length is announced or it goes on and on."""
    body = b'{"messages": [' + b" " * 2000 + b"]}"

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100):
            yield body[start : start + 100]

    async with serve(max_body_bytes=1000) as service:
        for path in PATHS:
            for content in (body, pieces()):
                response = await service.client.post(path, content=content, headers=JSON)
                assert (response.status_code, error_of(response)["code"]) == (413, "too_large")
                assert "1000 bytes" in error_of(response)["message"]
        head = b"POST /chat HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n"
        head += b"content-type: application/json\r\n\r\n"
        async with service.sending(head) as answer:  # it is refused with nothing sent of it
            assert (await answer.readline()).startswith(b"HTTP/1.1 413 ")
        assert (await service.client.post("/chat", json=QUESTION)).status_code == 200


def chat_of(content: object, **fields: object) -> dict[str, object]:
    """Make the body of a chat with one message."""
    return {"messages": [{"role": "user", "content": content}], **fields}


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/chat", chat_of("x" * (MAX_TEXT + 1)), f"limit of {MAX_TEXT}"),
        ("/v1/chat/completions", chat_of("x", user="x" * MAX_TEXT), f"limit of {MAX_TEXT}"),
        ("/v1/chat/completions", chat_of([{}] * (MAX_COST // 20)), "values"),
        ("/v1/chat/completions", chat_of("x", stop=['"\\'] * (MAX_COST // 4)), "values"),
        ("/v1/embeddings", {"input": [1] * MAX_COST}, "values"),
    ],
)
async def test_body_that_costs_too_much_is_413(path: str, body: object, reason: str) -> None:
    """More text or more values than the event loop processes at once are refused."""
    async with serve() as service:
        response = await service.client.post(path, json=body)
    assert (response.status_code, error_of(response)["code"]) == (413, "too_large")
    assert reason in error_of(response)["message"]


@pytest.mark.parametrize(
    "content",
    [
        '"[{,\\' * MAX_COST,
        [{"type": "image_url", "image_url": {"url": "x" * MAX_TEXT}}, {"type": "text"}],
        [{"type": "input_audio", "input_audio": {"data": "x" * MAX_TEXT, "format": "wav"}}],
        [{"type": "file", "file": {"file_data": "x" * MAX_TEXT}}],
    ],
)
async def test_long_text_and_files_are_accepted(content: object) -> None:
    """Brackets and commas in text are text; images, sounds and files may be larger than it."""
    body = chat_of(content, max_tokens=1)
    async with serve() as service:
        response = await service.client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200


async def test_no_such_thing() -> None:
    """An unknown path or method is refused in the one shape; HEAD has no body."""
    async with serve() as service:
        for method, path in [("GET", "/nowhere"), ("POST", "/v1/nowhere")]:
            response = await service.client.request(method, path)
            assert (response.status_code, error_of(response)["code"]) == (404, "not_found")
        for method, path in [("GET", "/chat"), ("DELETE", "/v1/models"), ("OPTIONS", "/chat")]:
            response = await service.client.request(method, path)
            assert (response.status_code, "allow" in response.headers) == (405, True)
            assert error_of(response)["code"] == "method_not_allowed"
        response = await service.client.head("/chat")
        assert (response.status_code, response.content) == (405, b"")


async def test_probes() -> None:
    """A service that runs is alive, and ready for traffic; HEAD asks for no body."""
    async with serve() as service:
        for path, status in [("/livez", "alive"), ("/health", "alive"), ("/readyz", "ready")]:
            response = await service.client.head(path)
            assert (response.status_code, response.content) == (200, b"")
            assert (await service.client.get(path)).json() == {"status": status}


async def test_probe_of_a_service_that_drains() -> None:
    """A service that drains is not ready, and says when it will be gone, in whole seconds."""
    async with serve(drain_timeout=599.5) as service:
        drain = Drain(service.services.settings.drain_timeout)
        service.use(drain=drain)
        with drain.admit():  # as long as a request is open, the server does not get the signal
            async with drain.listening():
                await asyncio.sleep(0)
                signal.raise_signal(signal.SIGTERM)
                await eventually(lambda: drain.started)
                response = await service.client.get("/readyz")
    assert (response.status_code, response.json()) == (503, {"status": "draining"})
    assert response.headers["retry-after"] == "600"


async def test_request_id_comes_back() -> None:
    """Every response carries a request id: the caller's where it is short and plain."""
    async with serve() as service:
        for path, body in [*ROUTES, ("/nowhere", {}), ("/chat", {})]:
            ids = {}
            for given in (b"ab-12:x/=", b"x" * 129, b"a b", "é".encode(), b""):
                headers = {b"X-Request-ID": given}
                response = await service.client.post(path, json=body, headers=headers)
                ids[given] = response.headers["x-request-id"].encode()
            assert {given for given, received in ids.items() if given == received} == {b"ab-12:x/="}
            assert len(set(ids.values())) == len(ids)


SILENCE = 1.5
"""Seconds; a stall of the machine must be shorter."""


async def test_client_that_stops_sending_is_408() -> None:
    """A body may take long in all, and so may the answer: only its client's silence is bounded."""
    head = b"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    stalled = head + b'Content-Length: 99\r\n\r\n{"messages"'
    body = b'{"messages": [{"role": "user", "content": "Hello"}]}'

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 5):
            yield body[start : start + 5]
            await asyncio.sleep(SILENCE / 8)

    slow = {"echo_first_token_delay": 1.3 * SILENCE, "echo_token_count": 1}
    async with serve(send_timeout=SILENCE, **slow) as service, service.sending(stalled) as refused:
        answer = await service.client.post("/chat", content=pieces(), headers=JSON)
        assert (await refused.readline()).startswith(b"HTTP/1.1 408 ")
    assert answer.status_code == 200
