"""The transport over real sockets, on asyncio's loop and on uvloop."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET

import httpx
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from . import OK, Peer, client, serving

MANY = b"x" * 50_000_000
BODY = b"0123456789" * 16
CLOSED = b"HTTP/1.1 200 OK\r\n\r\n" + BODY
LENGTH = CLOSED.replace(b"\r\n", b"\r\nContent-Length: 160\r\n", 1)
LONG = LENGTH.replace(b"\r\n", b"\r\nX: " + b"x" * 60_000 + b"\r\n", 1)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"a;x=y\r\n0123456789\r\n" * 16 + b"0\r\nA: b\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nContent-Type: a\r\n\r\n"
ANSWERS: dict[str, tuple[bytes, bytes | str, int]] = {
    "length": (LENGTH, BODY, 1),
    "chunked": (CHUNKED + CHUNKS, BODY, 1),
    "until close": (CLOSED, BODY, 2),
    "Connection: close": (LENGTH.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), BODY, 2),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", 1),
    "interim": (INTERIM + LENGTH, BODY, 1),
    "60 kB of headers": (LONG, BODY, 1),
    "bytes after the end": (LENGTH + OK, BODY, 2),
    "70 kB of headers": (LONG.replace(b"X:", b"X:" + b"x" * 10_000), "headers", 2),
    "1 MB of extensions": (CHUNKED + b"1;" + b"x" * 1_000_000, "headers", 2),
    "cut in the length": (LENGTH[:-1], "before the response was complete", 2),
    "cut in a chunk": (CHUNKED + b"3\r\nok", "before the response was complete", 2),
    "nothing": (b"", "before a response came", 2),
    "two framings": (CHUNKED[:-2] + b"Content-Length: 2\r\n\r\nok", "not valid", 2),
    "gzip, chunked": (CHUNKED.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n", "coding", 2),
    "an upgrade": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\n\r\n", "not valid", 2),
}


async def ask_twice(pieces: Sequence[bytes], *, closes: bool, reads: bool = True) -> list[object]:
    """Request an answer that comes in pieces, then OK; return both, and the connections used."""

    async def handle(peer: Peer) -> None:
        if peer.server.opened == 1:
            await peer.request()
            for piece in pieces:
                await peer.send(piece)
                await asyncio.sleep(0)  # so that the client reads the piece alone
        if peer.server.opened > 1 or not closes:
            await peer.answer()

    found: list[object] = []
    async with serving(handle) as server, client(timeout=3) as http:
        for does_read in (reads, True):
            try:
                async with http.stream("GET", server.url) as response:
                    found.append(await response.aread() if does_read else None)
            except (httpx.ReadError, httpx.RemoteProtocolError) as error:
                found.append(error)
    return [*found, server.opened]


@pytest.mark.parametrize(("sent", "outcome", "connections"), ANSWERS.values(), ids=ANSWERS)
async def test_answers(sent: bytes, outcome: bytes | str, connections: int) -> None:
    """A body or an error is read from the bytes; only a clean connection is used again."""
    closes = isinstance(outcome, str) or sent == CLOSED
    first, second, opened = await ask_twice([sent], closes=closes)
    assert str(outcome) in str(first)
    assert (second, opened) == (b"ok", connections)


@settings(max_examples=25)
@given(
    answer=st.sampled_from([LENGTH, CHUNKED + CHUNKS, INTERIM + CHUNKED + CHUNKS, CLOSED]),
    cuts=st.lists(st.integers(0, 400), max_size=9),
    changed=st.none() | st.integers(1, 400),
    change=st.binary(max_size=2),
    is_cut=st.booleans(),
)
def test_split_and_corrupted_answers(
    answer: bytes, cuts: list[int], changed: int | None, change: bytes, *, is_cut: bool
) -> None:
    """However an answer is split, it ends, and is the same; the next one is right."""
    sent = answer
    if changed is not None:
        sent = answer[:changed] + change + (b"" if is_cut else answer[changed + 1 :])
    at = [0, *sorted({cut % len(sent) for cut in cuts}), len(sent)]
    pieces = [sent[start:end] for start, end in pairwise(at)]
    closes = answer == CLOSED or sent != answer
    for reads in (True, False):
        first, second, _ = asyncio.run(ask_twice(pieces, closes=closes, reads=reads))
        if sent == answer:
            assert (first, second) == (BODY if reads else None, b"ok")
        else:
            whole, _, _ = asyncio.run(ask_twice([sent], closes=True, reads=reads))
            assert first == whole or type(first) is type(whole) is httpx.RemoteProtocolError
            assert second == b"ok" or isinstance(second, httpx.RemoteProtocolError)


@pytest.mark.parametrize("reset", [True, False])
async def test_no_failure_ends_a_body(*, reset: bool) -> None:
    """A reset, or the end of the client, is not the end of a body that ends by closing."""

    async def handle(peer: Peer) -> None:
        await peer.request()
        await peer.send(CLOSED)
        await peer.server.done.wait()
        if reset:
            socket = peer.writer.get_extra_info("socket")
            socket.setsockopt(SOL_SOCKET, SO_LINGER, b"\1" + bytes(7))
        peer.writer.transport.abort()

    async with serving(handle) as server, client() as http, http.stream("GET", server.url) as got:
        if not reset:
            await http.aclose()
        server.done.set()
        with pytest.raises(httpx.ReadError, match="reset" if reset else "this client"):
            await got.aread()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", ""])
@pytest.mark.parametrize("name", ["127.0.0.1", "elsewhere.test"])
async def test_certificates(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, name: str
) -> None:
    """HTTPS needs a certificate of the host by an authority that the environment names."""
    authority = trustme.CA(organization_name="tests", organization_unit_name="tests")
    file = tmp_path / "4290ff89.0"  # OpenSSL's hash of the authority's name
    authority.cert_pem.write_to_path(str(file))
    if variable:
        monkeypatch.setenv(variable, str(file if variable == "SSL_CERT_FILE" else tmp_path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    trusted = variable and name == "127.0.0.1"
    reason = "IP address mismatch" if variable else "unable to get local issuer"
    async with serving(tls=context) as server, client() as http:
        for _ in range(2):
            with nullcontext() if trusted else pytest.raises(httpx.ConnectError, match=reason):
                assert (await http.get(server.url)).content == b"ok"
        assert server.requests == (2 if trusted else 0)


async def parts() -> AsyncIterator[bytes]:
    """Yield a body in parts."""
    for part in (b"he", b"", b"llo"):
        yield part


@pytest.mark.parametrize(
    ("sent", "streamed", "requests"), [(b"", False, 3), (OK[:9], False, 2), (b"", True, 2)]
)
async def test_stale_connection(sent: bytes, requests: int, *, streamed: bool) -> None:
    """Where a kept connection is closed before a byte came, a body of bytes is sent once more."""

    async def handle(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.send(sent)

    async with serving(handle) as server, client() as http:
        await http.get(server.url)
        with nullcontext() if requests == 3 else pytest.raises(httpx.TransportError):
            await http.post(server.url, content=parts() if streamed else b"")
        assert server.requests == requests


async def test_idle_connections_close() -> None:
    """An idle connection is closed in time, by unsolicited bytes, and for another host."""

    async def handle(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        if peer.server.opened == 3:
            await peer.server.done.wait()
            await peer.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        await peer.gone()

    async with serving(handle) as server, serving() as other:
        async with client(keepalive=0.01) as http:
            await http.get(server.url)
            await server.wait_open(0)
        async with client() as http:
            for url in (server.url, other.url, server.url):
                await http.get(url)
                await (server if url == other.url else other).wait_open(0)
            server.done.set()
            await server.wait_open(0)
        assert (server.opened, other.opened) == (3, 1)


async def test_pool_is_bounded() -> None:
    """No more connections than allowed are open; a wait for one ends in time, or by a cancel."""

    async def handle(peer: Peer) -> None:
        await peer.server.done.wait()
        await peer.answer()

    timeout = httpx.Timeout(10, pool=0.2)
    async with serving(handle) as server, client(timeout, max_connections=2) as http:
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(http.get(server.url)) for _ in range(2)]
            await server.wait_open(2)
            with pytest.raises(httpx.PoolTimeout, match=r"all 2 connections .* for 0.2 s"):
                await http.get(server.url)
            calls += [group.create_task(http.get(server.url)) for _ in range(10)]
            await asyncio.sleep(0)
            calls.pop().cancel()
            server.done.set()
        assert {call.result().content for call in calls} == {b"ok"}
        assert server.opened == 2


PHASES = {
    "connect": (httpx.ConnectTimeout, b""),  # TLS never begins
    "write": (httpx.WriteTimeout, MANY),
    "read the head": (httpx.ReadTimeout, b""),
    "read the body": (httpx.ReadTimeout, b""),
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("cancelled", [True, False])
async def test_no_phase_lasts_for_ever(phase: str, *, cancelled: bool) -> None:
    """A timeout or a cancel in any phase closes the connection and frees its place in the pool."""
    kind, content = PHASES[phase]

    async def handle(peer: Peer) -> None:
        if peer.server.opened > 1:
            await peer.answer()
        if phase == "read the body":
            await peer.request()
            await peer.send(OK[:-1])
        await peer.server.done.wait()
        await peer.gone()

    async with serving(handle) as server, client(None if cancelled else 0.1) as http:
        url = server.url.replace("http", "https" if phase == "connect" else "http")
        call = asyncio.create_task(http.post(url, content=content))
        await server.wait_open(1)
        if cancelled:
            await asyncio.sleep(0.05)
            call.cancel()
        with pytest.raises(asyncio.CancelledError if cancelled else kind):
            await call
        server.done.set()
        await server.wait_open(0)
        assert (await http.get(server.url, timeout=10)).content == b"ok"


async def test_slow_reader() -> None:
    """A reader that is behind pauses the server, and then gets the whole body."""

    async def handle(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(MANY))
        await peer.send(MANY)
        peer.server.done.set()

    async with serving(handle) as server, client() as http, http.stream("GET", server.url) as got:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.done.wait(), 0.2)
        assert await got.aread() == MANY


@pytest.mark.parametrize("reads_on", [True, False])
async def test_answer_before_the_request_is_sent(*, reads_on: bool) -> None:
    """It is returned, without the rest of the request, and the connection is not used again."""

    async def handle(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(OK)
        await (peer.gone() if reads_on else peer.server.done.wait())

    async with serving(handle) as server, client() as http:
        for _ in range(2):
            assert (await http.post(server.url, content=MANY)).content == b"ok"
        assert server.opened == 2
        server.done.set()


async def test_answer_and_close_before_the_request_is_sent() -> None:
    """The rest of the request is not written to a closed connection."""

    async def handle(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)

    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        await server.wait_open(0)
        await asyncio.sleep(0.01)  # the client sees the end of the connection
        yield b"y"

    async with serving(handle) as server, client() as http:
        assert (await http.post(server.url, content=body())).content == b"ok"


@pytest.mark.parametrize("length", [None, "2", "5", "9"])
async def test_streamed_request(length: str | None) -> None:
    """A body without a length is chunked; one that does not fit its length is an error."""

    async def handle(peer: Peer) -> None:
        await peer.request()
        if length is None:
            assert await peer.reader.readuntil(b"0\r\n\r\n") == b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
        await peer.send(OK)

    headers = {"content-length": length} if length else {}
    error = pytest.raises(httpx.LocalProtocolError, match="Content-Length")
    async with serving(handle) as server, client() as http:
        with nullcontext() if length in (None, "5") else error:
            assert (await http.post(server.url, content=parts(), headers=headers)).content == b"ok"


async def test_head_and_bad_requests() -> None:
    """HEAD has no body; what would not be one HTTP request is refused, and not quoted."""

    async def handle(peer: Peer) -> None:
        await peer.request()
        await peer.send(INTERIM + OK[:-2])
        await peer.gone()

    async with serving(handle) as server, client() as http:
        # Without the header of the interim response.
        assert (await http.head(server.url)).headers == {"content-length": "2"}
        with pytest.raises(httpx.LocalProtocolError) as error:
            await http.get(server.url, headers={"authorization": "Bearer secret\n"})
        assert "secret" not in str(error.value)
        with pytest.raises(httpx.UnsupportedProtocol):
            await http.get("ftp://127.0.0.1")
