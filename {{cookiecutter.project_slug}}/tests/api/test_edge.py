"""The HTTP edge: invalid, large and slow requests get one kind of answer."""

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.api.bodies import MAX_COST, MAX_MESSAGES, MAX_TEXT
from app.drain import Drain
from tests.service import (
    COMPLETION,
    EMBEDDING,
    QUESTION,
    at_upstream,
    error_of,
    eventually,
    serve,
)
from tests.upstream import FakeUpstream

JSON = {"content-type": "application/json"}
PATHS = ["/chat", "/v1/chat/completions", "/v1/embeddings"]
NO_QUESTION: list[tuple[str, Any, str | None]] = [
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
    ("/v1/embeddings", {"model": "m"}, "input"),
    ("/v1/embeddings", {"model": "m", "input": 1}, "input"),
    ("/v1/embeddings", {"model": "m", "input": ["a", 1]}, "input"),
    ("/v1/embeddings", {"model": "m", "input": [["a"]]}, "input"),
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


def invalid(path: str) -> tuple[int, str]:
    """Return the status and type of the refusal of an invalid body."""
    return (422, "invalid_request") if path == "/chat" else (400, "invalid_request_error")


@pytest.mark.parametrize(("path", "body", "field"), NO_QUESTION)
async def test_invalid_body_is_refused_and_names_the_field(
    upstream: FakeUpstream, path: str, body: Any, field: str | None
) -> None:
    """A bad body is refused with the field that is wrong, before the provider hears of it."""
    async with serve(**at_upstream(upstream)) as service:
        response = await service.client.post(path, json=body)
    error = error_of(response)
    assert (response.status_code, error["type"]) == invalid(path)
    assert error["param"] == field
    assert error["message"].startswith(field or "Input should be")
    assert upstream.counts.received == 0


@pytest.mark.parametrize("path", PATHS)
async def test_body_that_cannot_be_read_is_invalid_too(path: str) -> None:
    """What cannot be read as JSON is as invalid as what makes no sense, and is told why."""
    async with serve() as service:
        for body, reason in UNREADABLE:
            response = await service.client.post(path, content=body, headers=JSON)
            error = error_of(response)
            assert (response.status_code, error["type"]) == invalid(path)
            assert error["param"] is None
            assert reason in error["message"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_other_media_types_are_refused(path: str, media_type: str) -> None:
    """A body that is not announced as JSON is invalid, and the error names the right type."""
    async with serve() as service:
        headers = {"content-type": media_type}
        response = await service.client.post(path, content=b"{}", headers=headers)
    assert (response.status_code, error_of(response)["type"]) == invalid(path)
    assert "application/json" in error_of(response)["message"]


async def test_all_of_unicode_is_passed_on(upstream: FakeUpstream) -> None:
    """Two surrogates that are a pair are a character, and reach the provider as one."""
    body = b'{"model": "m", "input": "\\ud83d\\ude00\\u0000\\uffff"}'
    async with serve(**at_upstream(upstream)) as service:
        response = await service.client.post("/v1/embeddings", content=body, headers=JSON)
    assert response.status_code == 200
    assert upstream.requests[0].json["input"] == "\U0001f600\0\uffff"


async def test_bodies_are_described() -> None:
    """The description of the API says what each route takes."""
    async with serve() as service:
        described = (await service.client.get("/openapi.json")).json()
    for path in PATHS:
        content = described["paths"][path]["post"]["requestBody"]["content"]
        name = content["application/json"]["schema"]["$ref"].removeprefix("#/components/schemas/")
        assert described["components"]["schemas"][name]["required"] in (["messages"], ["input"])
    assert "HTTPValidationError" not in str(described)


@pytest.mark.parametrize(
    ("path", "invalid", "media_types"),
    [
        ("/chat", "422", {"text/event-stream"}),
        ("/v1/chat/completions", "400", {"application/json", "text/event-stream"}),
    ],
)
async def test_responses_are_described(path: str, invalid: str, media_types: set[str]) -> None:
    """The description of the API has each status with its body, and the events of a stream."""
    async with serve() as service:
        described = (await service.client.get("/openapi.json")).json()
        refused = await service.client.post(path, json={})
    responses = described["paths"][path]["post"]["responses"]
    assert set(responses["200"]["content"]) == media_types
    assert {invalid, "401", "413", "429", "502", "503", "504"} <= responses.keys()
    (reference,) = responses[invalid]["content"]["application/json"]["schema"].values()
    detail = described["components"]["schemas"]["ErrorDetail"]
    assert reference.endswith("/ErrorBody")
    assert set(detail["required"]) == error_of(refused).keys() - {"retry_after"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("announced", [True, False])
async def test_too_large_body_is_413(path: str, announced: bool) -> None:
    """A body over the limit is refused, whether its length is announced or it goes on and on."""
    body = b'{"messages": [' + b" " * 2000 + b"]}"

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100):
            yield body[start : start + 100]

    async with serve(max_body_bytes=1000) as service:
        content = body if announced else pieces()
        response = await service.client.post(path, content=content, headers=JSON)
        assert (response.status_code, error_of(response)["code"]) == (413, "too_large")
        assert "1000 bytes" in error_of(response)["message"]
        assert (await service.client.post("/chat", json=QUESTION)).status_code == 200


async def test_announced_body_is_refused_unread() -> None:
    """Who announces too large a body need not send it to be refused."""
    head = b"POST /chat HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n"
    head += b"content-type: application/json\r\n\r\n"
    async with serve(max_body_bytes=1000) as service:
        reader, writer = await asyncio.open_connection(service.host, service.port)
        writer.write(head)
        status = await reader.readline()  # its phrase is Python's, and differs among versions
        writer.close()
        await writer.wait_closed()
    assert status.startswith(b"HTTP/1.1 413 ")


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
    async with serve() as service:
        response = await service.client.post(
            "/v1/chat/completions", json=chat_of(content, max_tokens=1)
        )
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/v1/nowhere", 404, "not_found"),
        ("GET", "/chat", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("OPTIONS", "/chat", 405, "method_not_allowed"),
    ],
)
async def test_no_such_thing(method: str, path: str, status: int, kind: str) -> None:
    """An unknown path or method is refused in the one shape."""
    async with serve() as service:
        response = await service.client.request(method, path)
    assert (response.status_code, error_of(response)["code"]) == (status, kind)
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(("path", "status"), [("/livez", 200), ("/readyz", 200), ("/chat", 405)])
async def test_head_has_no_body(path: str, status: int) -> None:
    """HEAD answers with headers alone, also on the probes, and the connection stays usable."""
    async with serve() as service:
        response = await service.client.head(path)
        assert (response.status_code, response.content) == (status, b"")
        assert (await service.client.get("/livez")).json() == {"status": "alive"}


async def test_probes() -> None:
    """A service that runs is alive, and ready for traffic."""
    async with serve() as service:
        assert (await service.client.get("/livez")).json() == {"status": "alive"}
        assert (await service.client.get("/readyz")).json() == {"status": "ready"}


async def test_probe_of_a_service_that_drains() -> None:
    """A service that drains is not ready, and says when it will be gone, in whole seconds."""
    async with serve(drain_timeout=599.5) as service:
        drain = Drain(service.services.settings.drain_timeout)
        service.use(drain=drain)
        with drain.admit():  # as long as somebody is inside, the server hears nothing of it
            async with drain.listening():
                await asyncio.sleep(0)
                signal.raise_signal(signal.SIGTERM)
                await eventually(lambda: drain.started)
                response = await service.client.get("/readyz")
    assert (response.status_code, response.json()) == (503, {"status": "draining"})
    assert response.headers["retry-after"] == "600"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat", QUESTION),
        ("/v1/chat/completions", COMPLETION),
        ("/v1/embeddings", EMBEDDING),
        ("/nowhere", {}),
        ("/chat", {}),
    ],
)
async def test_request_id_comes_back(path: str, body: dict[str, Any]) -> None:
    """Every response carries a request id: the caller's where it is short and plain."""
    async with serve() as service:
        ids = {}
        for given in (b"ab-12:x/=", b"x" * 129, b"a b", "é".encode(), b""):
            headers = {b"X-Request-ID": given}
            response = await service.client.post(path, json=body, headers=headers)
            ids[given] = response.headers["x-request-id"].encode()
    assert {given for given, received in ids.items() if given == received} == {b"ab-12:x/="}
    assert len(set(ids.values())) == len(ids)


SILENCE = 1.5
"""Seconds; a stall of the machine must be shorter."""


@pytest.mark.parametrize("begun", [b"", b'{"messages"'])
async def test_body_that_stalls_is_408(begun: bytes) -> None:
    """A client that announces a body and does not go on sending it is taken for gone."""
    head = b"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    async with serve(send_timeout=SILENCE) as service:
        reader, writer = await asyncio.open_connection(service.host, service.port)
        writer.write(head + b"Content-Length: 99\r\n\r\n" + begun)
        status = await reader.readline()  # its phrase is Python's, and differs among versions
        writer.close()
        await writer.wait_closed()
    assert status.startswith(b"HTTP/1.1 408 ")


async def test_body_may_take_long_in_all() -> None:
    """As long as some of it comes, a body may take longer than the silence that is borne."""
    whole = b'{"messages": [{"role": "user", "content": "Hello"}]}'

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(whole), 5):
            yield whole[start : start + 5]
            await asyncio.sleep(SILENCE / 8)

    async with serve(send_timeout=SILENCE) as service:
        headers = {"Content-Type": "application/json"}
        response = await service.client.post("/chat", content=pieces(), headers=headers)
    assert response.status_code == 200


async def test_answer_may_take_longer_than_silence() -> None:
    """Once the body is there its client has nothing to say, for as long as the answer takes."""
    async with serve(send_timeout=SILENCE, echo_first_token_delay=1.3 * SILENCE) as service:
        response = await service.client.post("/v1/chat/completions", json=QUESTION)
    assert response.status_code == 200
