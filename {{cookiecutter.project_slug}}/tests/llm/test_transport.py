"""Failures between the service and a provider become the protocol's errors."""

from typing import Any

import httpx
import pytest

from app.http.client import build_http_client
from app.llm.base import (
    BrokenStreamError,
    JSONObject,
    ProviderAuthenticationError,
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from app.llm.sse import ServerSentEvent
from app.llm.transport import ProviderEndpoint, error_details
from tests.upstream import Action, FakeUpstream, Script

from .asking import KEY, QUESTION

PATH = "/chat/completions"
BOTH_WAYS = pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "plain"])


@pytest.fixture
def endpoint(client: httpx.AsyncClient, upstream: FakeUpstream) -> ProviderEndpoint:
    """Point an endpoint at the fake upstream."""
    return endpoint_at(client, upstream.base_url)


def endpoint_at(client: httpx.AsyncClient, base_url: str) -> ProviderEndpoint:
    """Make an endpoint."""
    headers = {"authorization": f"Bearer {KEY}"}
    return ProviderEndpoint(client, name="fake", base_url=base_url, headers=headers)


async def call(
    endpoint: ProviderEndpoint, *, streamed: bool, request: JSONObject = QUESTION
) -> list[ServerSentEvent]:
    """Make a call to its end."""
    if not streamed:
        await endpoint.json("POST", PATH, request)
        return []
    async with endpoint.events(PATH, request | {"stream": True}) as events:
        batches = [batch async for batch in events]
    assert all(batches), "an empty batch says nothing"
    return [event for batch in batches for event in batch]


async def failure(
    endpoint: ProviderEndpoint, *, streamed: bool, request: JSONObject = QUESTION
) -> ProviderError:
    """Make a call that fails, and return how."""
    with pytest.raises(ProviderError) as raised:
        await call(endpoint, streamed=streamed, request=request)
    return raised.value


@BOTH_WAYS
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, ProviderUnavailableError),
        (400, ProviderRejectedError),
        (401, ProviderAuthenticationError),
        (402, ProviderRateLimitedError),
        (403, ProviderAuthenticationError),
        (404, ProviderRejectedError),
        (408, ProviderUnavailableError),
        (413, ProviderRejectedError),
        (422, ProviderRejectedError),
        (429, ProviderRateLimitedError),
        (500, ProviderUnavailableError),
        (502, ProviderUnavailableError),
        (503, ProviderOverloadedError),
        (529, ProviderOverloadedError),
    ],
)
async def test_a_status_has_its_error(
    endpoint: ProviderEndpoint,
    upstream: FakeUpstream,
    status: int,
    kind: type[ProviderError],
    *,
    streamed: bool,
) -> None:
    """Each status is the error that callers act on; its message has the provider and the status."""
    upstream.script = Script(status=status)
    error = await failure(endpoint, streamed=streamed)
    assert type(error) is kind
    assert str(error).startswith(f"fake answered {status}")
    assert error.retry_after is None


@BOTH_WAYS
async def test_a_rejection_repeats_what_the_provider_said(
    endpoint: ProviderEndpoint, upstream: FakeUpstream, *, streamed: bool
) -> None:
    """Message, code and param reach the caller: they say what is wrong with the request."""
    upstream.script = Script(status=400)
    error = await failure(endpoint, streamed=streamed)
    assert "maximum context length is 128000 tokens" in str(error)
    assert (error.code, error.param) == ("context_length_exceeded", "messages")


@BOTH_WAYS
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After-Ms": "120", "Retry-After": "1"}, 0.12),
        ({"X-RateLimit-Remaining-Requests": "0", "X-RateLimit-Reset-Requests": "6m0s"}, 360.0),
    ],
)
async def test_an_error_says_how_long_to_wait(
    endpoint: ProviderEndpoint,
    upstream: FakeUpstream,
    headers: dict[str, str],
    seconds: float,
    *,
    streamed: bool,
) -> None:
    """The provider's advice is in `retry_after`, in seconds."""
    upstream.script = Script(status=429, headers=headers)
    assert (await failure(endpoint, streamed=streamed)).retry_after == seconds


@BOTH_WAYS
async def test_the_key_never_shows(
    endpoint: ProviderEndpoint, upstream: FakeUpstream, *, streamed: bool
) -> None:
    """A refused key is reported without the provider's words, which quote it."""
    upstream.script = Script(status=401)
    error = await failure(endpoint, streamed=streamed)
    assert KEY in upstream.requests[0].headers["authorization"]
    assert str(error) == "fake answered 401: it refused the service's credentials"
    assert (error.code, error.param) == (None, None)


@pytest.mark.parametrize(
    ("content", "details"),
    [
        (b'{"error":{"message":"m","code":"c"}}', {"message": "m", "code": "c"}),
        (b'{"type":"error","error":{"type":"t","message":"m"}}', {"type": "t", "message": "m"}),
        (b'{"object":"error","message":"m"}', {"object": "error", "message": "m"}),
        (b'{"error":"m"}', {"message": "m"}),
        (b'["m"]', {"message": "['m']"}),
        (b'"m"', {"message": "m"}),
        (b"<html>\xff\n", {"message": "<html>\ufffd"}),
        (b"", {"message": ""}),
        (b"x" * 10_000, {"message": "x" * 200}),
    ],
)
def test_finds_the_error_in_any_body(content: bytes, details: dict[str, Any]) -> None:
    """Nested, flat, a bare string or no JSON at all: the message is found, and not endless."""
    assert error_details(content) == details


async def test_an_endless_error_body_is_not_read_to_its_end(
    endpoint: ProviderEndpoint, upstream: FakeUpstream
) -> None:
    """A stream's error body is read up to a bound; the rest is not waited for."""
    upstream.script = Script(status=500, body=b"x" * 200_000, at_byte={150_000: Action.HOLD})
    error = await failure(endpoint, streamed=True)
    assert str(error) == "fake answered 500: " + "x" * 200
    await upstream.wait_aborted(1)


@BOTH_WAYS
@pytest.mark.parametrize("action", [Action.CUT, Action.RESET])
async def test_a_connection_that_ends_before_the_answer_is_unavailable(
    endpoint: ProviderEndpoint, upstream: FakeUpstream, action: Action, *, streamed: bool
) -> None:
    """A provider that hangs up without a status was not reached."""
    upstream.script = Script(before_headers=action)
    assert type(await failure(endpoint, streamed=streamed)) is ProviderUnavailableError


@BOTH_WAYS
@pytest.mark.parametrize("action", [Action.CUT, Action.RESET])
async def test_a_connection_that_ends_within_the_answer_is_a_broken_stream(
    endpoint: ProviderEndpoint, upstream: FakeUpstream, action: Action, *, streamed: bool
) -> None:
    """An answer that is cut is an error, however much of it came, and no hang."""
    upstream.script = Script(at_byte={20: action})
    assert type(await failure(endpoint, streamed=streamed)) is BrokenStreamError


@BOTH_WAYS
async def test_a_refused_connection_is_unavailable(
    client: httpx.AsyncClient, *, streamed: bool
) -> None:
    """Nobody listens: not reached, and not a timeout; the address stays out of the message."""
    async with FakeUpstream() as gone:
        endpoint = endpoint_at(client, gone.base_url)
    error = await failure(endpoint, streamed=streamed)
    assert type(error) is ProviderUnavailableError
    assert str(error) == "fake cannot be reached"


@BOTH_WAYS
async def test_no_connection_in_time_is_a_timeout(
    upstream: FakeUpstream, *, streamed: bool
) -> None:
    """Where the pool has no connection to give within the deadline, the stage is `connect`."""
    upstream.script = Script(before_event={1: Action.HOLD})
    async with build_http_client(max_connections=1, connect_timeout=1.5) as client:
        endpoint = endpoint_at(client, upstream.base_url)
        async with endpoint.events(PATH, QUESTION | {"stream": True}):
            error = await failure(endpoint, streamed=streamed)
    assert isinstance(error, ProviderTimeoutError)
    assert error.stage == "connect"


@BOTH_WAYS
@pytest.mark.parametrize(
    "script",
    [
        Script(before_headers=b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        Script(headers={"x-long": "x" * 100_000}),
        Script(headers={"content-encoding": "gzip"}),
        Script(gzip=True, at_byte={50: Action.CUT}),
    ],
    ids=["not HTTP", "endless header", "not gzip", "gzip cut short"],
)
async def test_what_makes_no_sense_is_a_broken_stream(
    endpoint: ProviderEndpoint, upstream: FakeUpstream, script: Script, *, streamed: bool
) -> None:
    """Bytes that are not what they claim to be are the protocol's error, without the key in it."""
    upstream.script = script
    error = await failure(endpoint, streamed=streamed)
    assert type(error) is BrokenStreamError
    assert KEY not in repr(error) + repr(error.__cause__)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a":', b"[]", b"1", b"null", b"\xff"])
async def test_a_plain_answer_is_a_json_object(
    endpoint: ProviderEndpoint, upstream: FakeUpstream, body: bytes
) -> None:
    """Status 200 with anything but a JSON object is a broken answer."""
    upstream.script = Script(body=body)
    assert type(await failure(endpoint, streamed=False)) is BrokenStreamError


@BOTH_WAYS
async def test_headers_are_told_whatever_the_status(
    client: httpx.AsyncClient, upstream: FakeUpstream, *, streamed: bool
) -> None:
    """`on_headers` sees each response's headers, refusals' too: they tell how the limits stand."""
    seen: list[str] = []
    endpoint = ProviderEndpoint(
        client,
        name="fake",
        base_url=upstream.base_url,
        headers={},
        on_headers=lambda headers: seen.append(headers["x-ratelimit-remaining-tokens"]),
    )
    left = {"X-RateLimit-Remaining-Tokens": "9"}
    upstream.queue.extend([Script(headers=left), Script(status=429, headers=left)])
    await call(endpoint, streamed=streamed)
    await failure(endpoint, streamed=streamed)
    assert seen == ["9", "9"]


async def test_events_come_in_whole_batches(
    endpoint: ProviderEndpoint, upstream: FakeUpstream
) -> None:
    """However an answer is cut up on its way, each batch holds the whole events it completes."""
    upstream.script = Script(chunk_size=1, pings=True)
    assert [event.data for event in await call(endpoint, streamed=True)][-1] == b"[DONE]"


async def test_an_event_without_end_is_a_broken_stream(
    endpoint: ProviderEndpoint, upstream: FakeUpstream
) -> None:
    """A line that never ends is given up, not collected."""
    upstream.script = Script(body=b"data: " + b"x" * 5_000_000)
    assert "over the limit" in str(await failure(endpoint, streamed=True))
    await upstream.wait_live(0)


@BOTH_WAYS
async def test_a_request_that_is_not_unicode_is_rejected(
    endpoint: ProviderEndpoint, upstream: FakeUpstream, *, streamed: bool
) -> None:
    """Half a surrogate pair, which a client's JSON may hold, is the client's mistake."""
    error = await failure(endpoint, streamed=streamed, request=QUESTION | {"user": "\ud800"})
    assert type(error) is ProviderRejectedError
    assert upstream.counts.received == 0


async def test_the_consumers_errors_are_its_own(endpoint: ProviderEndpoint) -> None:
    """What is raised while an answer is being read, but not by reading, passes unchanged."""
    with pytest.raises(httpx.ReadError, match="of the consumer"):
        async with endpoint.events(PATH, QUESTION | {"stream": True}):
            raise httpx.ReadError("of the consumer")
