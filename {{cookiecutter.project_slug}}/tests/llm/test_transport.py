"""What holds for the transport of every adapter, over a real socket with OpenAI's format."""

import asyncio

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import LONGEST_WAIT
from app.http.client import build_http_client
from app.llm.base import (
    BrokenStreamError,
    ProviderAuthenticationError,
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from app.llm.failures import retry_after
from app.llm.openai import OpenAIProvider
from app.llm.router import Router
from app.llm.stream import Deadlines
from tests.service import QUESTION as CHAT
from tests.service import at_upstream, serve
from tests.upstream import Action, FakeUpstream, Script

from . import (
    EVENTS,
    KEY,
    QUESTION,
    ask,
    ask_until_error,
    both_ways,
    error_of,
    text_of,
)

NOW = 1_445_412_470.0  # Wed, 21 Oct 2015 07:27:50 GMT
PHASES = {
    "before the headers": Script(before_headers=Action.HOLD),
    "before the first event": Script(before_event={0: Action.HOLD}),
    "before the first token": Script(before_event={1: Action.HOLD}),
    "in mid-stream": Script(before_event={3: Action.HOLD}),
    "in an event": Script(at_byte={600: Action.HOLD}),
    "before the end mark": Script(before_event={-1: Action.HOLD}),
    "in an error body": Script(status=500, at_byte={10: Action.HOLD}),
}
in_every_phase = pytest.mark.parametrize("script", PHASES.values(), ids=PHASES.keys())


@both_ways
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, ProviderUnavailableError),
        (401, ProviderAuthenticationError),
        (402, ProviderRateLimitedError),
        (408, ProviderUnavailableError),
        (422, ProviderRejectedError),
        (503, ProviderOverloadedError),
    ],
)
async def test_a_status_has_its_error(
    client: httpx.AsyncClient,
    upstream: FakeUpstream,
    status: int,
    kind: type[ProviderError],
    *,
    stream: bool,
) -> None:
    """Each status is a typed error with status and wait; `on_headers` sees its headers too."""
    seen: list[str] = []
    provider = OpenAIProvider(
        client,
        base_url=upstream.base_url,
        api_key=KEY,
        on_headers=lambda headers: seen.append(headers["retry-after"]),
    )
    upstream.script = Script(status=status, headers={"Retry-After": "7"})
    error = await error_of(provider, stream=stream)
    assert type(error) is kind
    assert str(error).startswith(f"openai answered {status}: ")
    assert KEY not in str(error), "a refused key is reported without the provider's words"
    refused = kind is ProviderAuthenticationError
    assert (error.status, error.retry_after) == (status, None if refused else 7.0)
    assert seen == ["7"]


@pytest.mark.parametrize(
    ("content", "detail", "code"),
    [
        (b'{"error":{"message":"m","code":"c"}}', "m", "c"),
        (b'{"type":"error","error":{"type":"t","message":"m"}}', "m", None),
        (b'{"object":"error","message":"m","code":404}', "m", "404"),
        (b'{"error":"m"}', "m", None),
        (b'["m"]', "['m']", None),
        (b"<html>\xff\n", "<html>\ufffd", None),
        (b"x" * 10_000, "x" * 200, None),
    ],
)
async def test_an_error_body_of_any_shape_is_read(
    openai: OpenAIProvider, upstream: FakeUpstream, content: bytes, detail: str, code: str | None
) -> None:
    """Nested, flat, a bare string or no JSON at all: the text is found, and is not endless."""
    upstream.script = Script(status=404, body=content)
    error = await error_of(openai, stream=True)
    assert str(error) == f"openai answered 404: {detail}"
    assert error.code == code


async def test_an_endless_error_body_is_not_read_to_its_end(
    openai: OpenAIProvider, upstream: FakeUpstream
) -> None:
    """A stream's error body is read up to a bound; the rest is not waited for."""
    upstream.script = Script(status=500, body=b"x" * 200_000, at_byte={150_000: Action.HOLD})
    assert str(await error_of(openai, stream=True)).endswith("500: " + "x" * 200)
    await upstream.wait_aborted(1)


@both_ways
@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (Script(before_headers=Action.CUT), BrokenStreamError),
        (Script(before_headers=Action.RESET), BrokenStreamError),
        (Script(at_byte={20: Action.CUT}), BrokenStreamError),
        (Script(at_byte={20: Action.RESET}), BrokenStreamError),
        (Script(before_headers=b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), BrokenStreamError),
        (Script(headers={"x-long": "x" * 100_000}), BrokenStreamError),
        (Script(headers={"content-encoding": "gzip"}), BrokenStreamError),
        (Script(gzip=True, at_byte={50: Action.CUT}), BrokenStreamError),
    ],
    ids=["cut", "reset", "cut within", "reset within", "SSH", "header", "no gzip", "gzip cut"],
)
async def test_a_connection_that_breaks_is_a_typed_error(
    openai: OpenAIProvider,
    upstream: FakeUpstream,
    script: Script,
    kind: type[ProviderError],
    *,
    stream: bool,
) -> None:
    """Whatever breaks off, or is no HTTP, is a broken answer."""
    upstream.script = script
    error = await error_of(openai, stream=stream)
    assert type(error) is kind
    assert KEY not in repr(error) + repr(error.__cause__)


@pytest.mark.parametrize(
    ("url", "proxy", "reason"),
    [
        ("http://nosuch.invalid/v1", None, "to http://nosuch.invalid: [Errno -"),
        ("http://127.0.0.1:1/v1", None, "[Errno 111] Connect call failed"),
        ("https://127.0.0.1:{port}/v1", None, "WRONG_VERSION_NUMBER"),
        ("http://localhost/v1", "http://user:{key}@127.0.0.1:1", "the proxy http://127.0.0.1:1"),
    ],
)
async def test_the_log_says_why_a_provider_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, url: str, proxy: str | None, reason: str
) -> None:
    """DNS, a refusal, TLS or a proxy is named, without keys, and not to clients."""
    if proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.format(key=KEY))

    def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"this is no TLS")
        writer.close()

    async with (
        await asyncio.start_server(answer, "127.0.0.1", 0) as server,
        build_http_client(max_connections=1, connect_timeout=5) as client,
    ):
        url = url.format(port=server.sockets[0].getsockname()[1])
        error = await error_of(OpenAIProvider(client, base_url=url, api_key=KEY), stream=True)
    assert type(error) is ProviderUnavailableError
    assert error.public_message == "openai cannot be reached"
    assert reason in str(error)
    assert KEY not in str(error)


async def test_no_connection_in_time_is_a_timeout(upstream: FakeUpstream) -> None:
    """Where the pool has no free connection within the deadline, the stage is `connect`."""
    upstream.script = Script(before_event={1: Action.HOLD})
    async with build_http_client(max_connections=1, connect_timeout=1.5) as client:
        provider = OpenAIProvider(client, base_url=upstream.base_url)
        async with provider.stream(QUESTION):
            error = await error_of(provider, stream=True)
    assert isinstance(error, ProviderTimeoutError)
    assert error.stage == "connect"


@both_ways
async def test_a_request_that_is_not_unicode_is_rejected(
    openai: OpenAIProvider, upstream: FakeUpstream, *, stream: bool
) -> None:
    """Half a surrogate pair, which a client's JSON may hold, is the client's mistake."""
    error = await error_of(openai, QUESTION | {"user": "\ud800"}, stream=stream)
    assert type(error) is ProviderRejectedError
    assert upstream.counts.received == 0


async def test_the_consumers_errors_are_its_own(openai: OpenAIProvider) -> None:
    """An exception of the code that reads an answer passes unchanged."""
    with pytest.raises(httpx.ReadError, match="of the consumer"):
        async with openai.stream(QUESTION):
            raise httpx.ReadError("of the consumer")


async def test_a_connection_is_used_again(openai: OpenAIProvider, upstream: FakeUpstream) -> None:
    """Streams, plain answers and errors one after the other take a single connection."""
    body_ends_after_end_mark = Script(before_event={EVENTS: 0.01}, gzip=True)
    upstream.queue.extend([Script(), body_ends_after_end_mark, Script(status=429)])
    for _ in range(3):
        await ask_until_error(openai)
    await openai.complete(QUESTION)
    await ask(openai)
    assert upstream.counts.completed == 5
    assert upstream.counts.connections == 1


async def test_a_body_that_does_not_end_is_left(
    openai: OpenAIProvider, upstream: FakeUpstream
) -> None:
    """A server that sends the end mark but not the end of the body costs the connection alone."""
    upstream.script = Script(before_event={EVENTS: Action.HOLD})
    async with asyncio.timeout(5):
        assert text_of(await ask(openai)) == upstream.script.text
    await upstream.wait_aborted(1)


@in_every_phase
async def test_cancelling_a_stream_closes_the_providers_request(
    openai: OpenAIProvider, upstream: FakeUpstream, script: Script
) -> None:
    """In whichever phase the caller is cancelled, the provider's request ends with it."""
    upstream.script = script
    task = asyncio.create_task(ask(openai))
    await upstream.wait_held(1)
    for _ in range(20):  # iterations of the loop in which the client reads what was sent
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await upstream.wait_aborted(1)
    await upstream.wait_until(lambda counts: counts.open_connections == 0)


@in_every_phase
async def test_a_silent_provider_is_left_at_the_deadline(
    openai: OpenAIProvider, upstream: FakeUpstream, script: Script
) -> None:
    """Silence in any phase ends as a timeout, and the provider's request is closed."""
    upstream.script = script
    deadlines = Deadlines(first_token=0.05, idle=0.05, total=5)
    chunks, error = await ask_until_error(Router([openai], models={}, deadlines=deadlines))
    assert isinstance(error, ProviderTimeoutError)
    assert error.stage == ("idle" if any(chunk.has_content for chunk in chunks) else "first_token")
    # Not: one is aborted. On a stalled machine the deadline comes before the request does.
    await upstream.wait_until(lambda counts: counts.live == counts.open_connections == 0)


async def test_the_services_ceiling_pauses_by_retry_after(upstream: FakeUpstream) -> None:
    """In the service a single provider's Retry-After holds back the next call."""
    upstream.script = Script(status=429, headers={"retry-after": "40"})
    async with serve(**at_upstream(upstream, llm_adaptive=True)) as service:
        assert (await service.client.post("/chat", json=CHAT)).status_code == 429
        shed = await service.client.post("/chat", json=CHAT)
    assert shed.status_code == 503
    assert 35 <= int(shed.headers["retry-after"]) <= 40
    assert upstream.counts.received == 1


async def test_the_services_ceiling_stays_if_it_is_not_adaptive(upstream: FakeUpstream) -> None:
    """With LLM_ADAPTIVE off the ceiling is what it was set to."""
    upstream.script = Script(status=529, headers={"retry-after-ms": "0"})
    async with serve(**at_upstream(upstream, llm_max_concurrency=10)) as service:
        assert (await service.client.post("/chat", json=CHAT)).status_code == 503
        assert service.services.limiter.limit == 10


WAITS: dict[str, float | None] = {
    "20": 20.0, "0": 0.0, "1.5": 1.5, "-3": 0.0, "1e300": LONGEST_WAIT,
    "Wed, 21 Oct 2015 07:28:00 GMT": 10.0, "Wed, 21 Oct 2015 07:00:00 GMT": 0.0,
    "Wed, 25 Nov 2099 00:00:00 GMT": LONGEST_WAIT, "Wed, 21 Oct 20150000000000 07:28:00 GMT": None,
    **dict.fromkeys(("", "soon", "inf", "-inf", "nan", "1e999", "²", "99 Oct")),
}  # fmt: skip
RESET = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "5s"}
LATER = {
    "x-ratelimit-remaining-requests": "1",
    "x-ratelimit-reset-requests": "9s",
    "anthropic-ratelimit-input-tokens-remaining": "0",
    "anthropic-ratelimit-input-tokens-reset": "2015-10-21T07:27:56Z",
}


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        *(({"retry-after": value}, (wait, wait is not None)) for value, wait in WAITS.items()),
        ({"retry-after-ms": "250", "retry-after": "1"}, (0.25, True)),
        ({"retry-after-ms": "soon", "retry-after": "1"}, (1.0, True)),
        ({"retry-after-ms": "86400001"}, (LONGEST_WAIT, True)),
        (RESET | {"x-ratelimit-reset-tokens": "120ms"}, (0.12, False)),
        (RESET | {"x-ratelimit-reset-tokens": "1h2m3s"}, (3723.0, False)),
        (RESET | {"x-ratelimit-reset-tokens": "2d"}, (LONGEST_WAIT, False)),
        (RESET | {"retry-after": "1"}, (1.0, True)),
        (RESET | LATER, (6.0, False)),
    ],
    ids=str,
)
def test_the_wait_is_read_from_headers(
    headers: dict[str, str], wait: tuple[float | None, bool]
) -> None:
    """`retry-after-ms`, `Retry-After`, or the last reset of the used-up limits; a day at most."""
    assert retry_after(headers, now=NOW) == wait


@settings(max_examples=25)
@given(st.text(max_size=30) | st.from_regex(r"[\dTZ:+\-\.msh ,GMTOct]{1,30}", fullmatch=True))
def test_no_header_breaks_the_reader(value: str) -> None:
    """Whatever a provider sends, the wait is None or from 0 seconds to a day."""
    seconds, _ = retry_after({"retry-after": value}, now=NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_WAIT
