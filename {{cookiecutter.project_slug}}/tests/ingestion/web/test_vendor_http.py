"""A call to a vendor ends with an answer or a WebError, in time, and leaves nothing behind."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from app.concurrency.limiter import ConcurrencyLimiter
from app.http import build_http_client
from app.ingestion.protocol import (
    BadAnswerError,
    BadKeyError,
    BlockedPageError,
    OutOfCreditError,
    TooLargeError,
    VendorUnavailableError,
    WebBusyError,
    WebError,
)
from app.ingestion.retry import Retry, RetryBudget
from app.ingestion.vendor_http import VendorAPI
from tests.upstream import Action, Script

from .fake_vendor import KEY, NO_TLS, PATIENT, SAFETY, FakeVendor, answer, at_once, each, failure

OK = answer({"ok": True})
HELD = answer({"ok": True}, before_headers=Action.HOLD)


def api_at(
    base_url: str, client: httpx.AsyncClient, slots: ConcurrencyLimiter, **options: Any
) -> VendorAPI:
    """Make the API of a vendor."""
    options = {"limiter": slots.slot, "retry": at_once(), **PATIENT, **options}
    return VendorAPI(client, name="Vendor", base_url=base_url, api_key=KEY, **options)


@pytest.fixture(params=["httpx", "aiohttp"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    """Open a plain httpx client, and the service's own: their transports fail in different ways."""
    limits = httpx.Limits(max_connections=200)
    opened = (
        httpx.AsyncClient(trust_env=False, verify=NO_TLS, limits=limits)
        if request.param == "httpx"
        else build_http_client(max_connections=200, connect_timeout=SAFETY)
    )
    async with opened:
        yield opened


@pytest.fixture
def api(client: httpx.AsyncClient, vendor: FakeVendor, slots: ConcurrencyLimiter) -> VendorAPI:
    """Point an API at the fake vendor."""
    return api_at(vendor.origin, client, slots)


async def ask(api: VendorAPI, question: str = "why?") -> object:
    """Make a call."""
    return await api.post("/ask", {"question": question}, lambda answer: answer)


async def test_a_call_sends_json_under_the_key(api: VendorAPI, vendor: FakeVendor) -> None:
    """The key is a bearer token, the body is JSON, and what comes back is what `read` makes."""
    vendor.script = OK
    assert await api.post("/ask", {"question": "Zürich?"}, repr) == "{'ok': True}"
    (request,) = vendor.requests
    assert (request.method, request.path, request.json) == ("POST", "/ask", {"question": "Zürich?"})
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"


async def test_connections_are_used_again(api: VendorAPI, vendor: FakeVendor) -> None:
    """An answer is read to its end, so that the next call needs no new connection."""
    vendor.script = each(OK, answer({}, gzip=True), answer({}, status=400), OK)
    await ask(api)
    await ask(api)
    await failure(ask(api), BadAnswerError)
    await ask(api)
    assert vendor.counts.connections == 1


@pytest.mark.parametrize(
    ("status", "kind", "calls"),
    [
        (302, BadAnswerError, 1),
        (400, BadAnswerError, 1),
        (401, BadKeyError, 1),
        (402, OutOfCreditError, 1),
        (403, BadKeyError, 1),
        (404, BadAnswerError, 1),
        (408, VendorUnavailableError, 3),
        (422, BadAnswerError, 1),
        (425, VendorUnavailableError, 3),
        (429, VendorUnavailableError, 3),
        (500, VendorUnavailableError, 3),
        (502, VendorUnavailableError, 3),
        (503, VendorUnavailableError, 3),
        (529, VendorUnavailableError, 3),
    ],
)
async def test_a_status_has_its_error(
    api: VendorAPI, vendor: FakeVendor, status: int, kind: type[WebError], calls: int
) -> None:
    """Each status has one error, which says what it was; only what can heal is tried again."""
    vendor.script = answer({}, status=status, headers={"location": "/elsewhere"})
    assert str(status) in str(await failure(ask(api), kind))
    assert vendor.counts.received == calls


async def test_a_vendor_may_have_statuses_of_its_own(
    client: httpx.AsyncClient, vendor: FakeVendor, slots: ConcurrencyLimiter
) -> None:
    """What a status means to a vendor goes before what it means to others."""
    api = api_at(vendor.origin, client, slots, status_errors={432: OutOfCreditError})
    vendor.script = each(answer({}, status=432), answer({}, status=401))
    await failure(ask(api), OutOfCreditError)
    await failure(ask(api), BadKeyError)


async def test_what_heals_is_tried_again(api: VendorAPI, vendor: FakeVendor) -> None:
    """A call whose second or third attempt goes well has gone well."""
    vendor.script = each(Script(body=b"{}", before_headers=Action.RESET), Script(status=503), OK)
    assert await ask(api) == {"ok": True}
    assert vendor.counts.received == 3


async def test_an_answer_may_say_that_it_heals(api: VendorAPI, vendor: FakeVendor) -> None:
    """What `read` raises is tried again if it heals: an error under HTTP 200 is one like others."""
    vendor.script = each(answer("busy"), OK)

    def read(said: object) -> object:
        if said == "busy":
            raise api.error(VendorUnavailableError, "is busy")
        return said

    assert await api.post("/ask", {}, read) == {"ok": True}


async def test_retry_after_is_kept(
    client: httpx.AsyncClient, vendor: FakeVendor, slots: ConcurrencyLimiter
) -> None:
    """No attempt comes sooner than the vendor said, and meanwhile no slot is held."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        assert slots.in_flight == 0
        waits.append(seconds)

    retry = Retry(RetryBudget(), first_wait=0.5, sleep=sleep)
    api = api_at(vendor.origin, client, slots, retry=retry)
    vendor.script = each(answer({}, status=429, headers={"Retry-After": "7"}), OK)
    await ask(api)
    (wait,) = waits
    assert 7.0 <= wait <= 7.5


async def test_a_wait_beyond_the_deadline_is_the_callers(
    api: VendorAPI, vendor: FakeVendor
) -> None:
    """Where the vendor asks for more time than there is, the caller is told so at once."""
    vendor.script = answer({}, status=503, headers={"Retry-After": "3600"})
    error = await failure(ask(api), VendorUnavailableError)
    assert (error.retry_after, vendor.counts.received) == (3600.0, 1)


async def test_retry_after_may_be_a_date(api: VendorAPI, vendor: FakeVendor) -> None:
    """A date counts from now; this one is decades away, but not as far as 1970."""
    date = "Fri, 01 Jan 2100 00:00:00 GMT"
    vendor.script = answer({}, status=503, headers={"Retry-After": date})
    error = await failure(ask(api), VendorUnavailableError)
    assert 1e8 < (error.retry_after or 0) < 3e9


@pytest.mark.parametrize(
    "script",
    [
        Script(body=b"{}", before_headers=Action.CUT),
        Script(body=b"{}", before_headers=Action.RESET),
        Script(body=b'{"ok": true}', at_byte={4: Action.CUT}),
        Script(body=b'{"ok": true}', at_byte={4: Action.RESET}),
        Script(body=b'{"ok": true}', gzip=True, at_byte={4: Action.CUT}),
        Script(body=b"{}", before_headers=b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    ],
    ids=["cut", "reset", "body cut", "body reset", "gzip cut", "not HTTP"],
)
async def test_a_broken_connection_may_heal(
    api: VendorAPI, vendor: FakeVendor, slots: ConcurrencyLimiter, script: Script
) -> None:
    """Whatever becomes of the connection, the vendor is unavailable, and is asked again."""
    vendor.script = script
    await failure(ask(api), VendorUnavailableError)
    assert (vendor.counts.received, slots.in_flight) == (3, 0)


async def test_nobody_there(client: httpx.AsyncClient, slots: ConcurrencyLimiter) -> None:
    """A vendor that cannot be connected to is unavailable."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        api = api_at(f"http://127.0.0.1:{taken.getsockname()[1]}", client, slots)
        await failure(ask(api), VendorUnavailableError)


async def test_what_is_not_json_is_a_bad_answer(api: VendorAPI, vendor: FakeVendor) -> None:
    """Garbage stays garbage, so it is not asked for again."""
    vendor.script = Script(body=b"<html>Hello</html>")
    await failure(ask(api), BadAnswerError)
    assert vendor.counts.received == 1


@pytest.mark.parametrize("encoding", ["gzip", "br"])
async def test_what_is_not_in_its_encoding_is_a_bad_answer(
    api: VendorAPI, vendor: FakeVendor, encoding: str
) -> None:
    """Nor is what is not compressed as it says, or in a way that nobody asked for."""
    vendor.script = answer({"ok": True}, headers={"content-encoding": encoding})
    await failure(ask(api), BadAnswerError)
    assert vendor.counts.received == 1


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
async def test_an_answer_has_a_bound(
    client: httpx.AsyncClient, vendor: FakeVendor, slots: ConcurrencyLimiter, *, gzip: bool
) -> None:
    """An answer of just `max_bytes` is read; one byte more, however small it came, is not."""
    api = api_at(vendor.origin, client, slots, max_bytes=100_000)
    vendor.script = Script(body=b'"%b"' % (b"x" * 99_998), gzip=gzip)
    assert await ask(api) == "x" * 99_998
    vendor.script = Script(body=b'"%b"' % (b"x" * 99_999), gzip=gzip)
    assert "100000" in str(await failure(ask(api), TooLargeError))
    assert vendor.counts.received == 2


@pytest.mark.parametrize("status", [200, 400])
async def test_an_endless_answer_is_left(
    client: httpx.AsyncClient, vendor: FakeVendor, slots: ConcurrencyLimiter, status: int
) -> None:
    """Of an answer that does not end no more is read than is accepted; then the line is cut."""
    api = api_at(vendor.origin, client, slots, max_bytes=100_000)
    vendor.script = Script(body=b"x" * 50_000_000, status=status)
    await failure(ask(api), TooLargeError if status == 200 else BadAnswerError)
    await vendor.wait_aborted(1)


async def test_an_attempt_has_a_deadline(
    client: httpx.AsyncClient, vendor: FakeVendor, slots: ConcurrencyLimiter
) -> None:
    """An attempt that takes too long is given up, its connection closed, and made again."""
    api = api_at(vendor.origin, client, slots, attempt_timeout=0.05)
    vendor.script = HELD
    assert "0.05 s" in str(await failure(ask(api), VendorUnavailableError))
    assert slots.snapshot().released == 3
    await vendor.wait_until(lambda counts: counts.open_connections == 0)


@pytest.mark.parametrize("where", ["in an answer", "in the queue"])
async def test_a_call_has_a_deadline(
    client: httpx.AsyncClient, vendor: FakeVendor, where: str
) -> None:
    """A call ends in time, wherever it is; it leaves no connection, no slot and no place behind."""
    slots = ConcurrencyLimiter(1, max_queue=5, queue_timeout=SAFETY)
    api = api_at(vendor.origin, client, slots, total_timeout=0.05)
    vendor.script = HELD
    if where == "in the queue":
        async with slots.slot():
            await failure(ask(api), VendorUnavailableError)
    else:
        await failure(ask(api), VendorUnavailableError)
    await vendor.wait_live(0)
    now = slots.snapshot()
    assert (now.in_flight, now.queued) == (0, 0)


@pytest.mark.parametrize("body_begun", [False, True], ids=["before", "within"])
async def test_cancelling_closes_the_connection_and_gives_the_slot_back(
    api: VendorAPI, vendor: FakeVendor, slots: ConcurrencyLimiter, *, body_begun: bool
) -> None:
    """When a cancelled call has ended, its slot is free, and the vendor sees that it is gone."""
    held = answer({"ok": True}, at_byte={3: Action.HOLD})
    vendor.script = held if body_begun else HELD
    call = asyncio.create_task(ask(api))
    await vendor.wait_held(1)
    assert slots.in_flight == 1
    call.cancel()
    await asyncio.wait([call], timeout=SAFETY)
    assert (call.cancelled(), slots.in_flight) == (True, 0)
    await vendor.wait_aborted(1)


async def test_no_more_calls_at_once_than_slots(
    api: VendorAPI, vendor: FakeVendor, slots: ConcurrencyLimiter
) -> None:
    """Of 150 calls 68 are with the vendor at once, all the time, and never one more."""
    vendor.script = HELD
    async with asyncio.TaskGroup() as group:
        for _ in range(150):
            group.create_task(ask(api))
        for received, held in ((68, 68), (136, 68), (150, 14)):
            await vendor.wait_received(received)
            await vendor.wait_held(held)
            vendor.release()
    assert (vendor.counts.peak, vendor.counts.completed) == (68, 150)


async def test_no_slot(client: httpx.AsyncClient, vendor: FakeVendor) -> None:
    """Without a slot the call says so, with the limiter's advice, and does not queue up again."""
    slots = ConcurrencyLimiter(1, max_queue=0, queue_timeout=SAFETY)
    api = api_at(vendor.origin, client, slots)
    async with slots.slot():
        error = await failure(ask(api), WebBusyError)
    assert (error.retry_after or 0) >= 1
    assert (slots.snapshot().refused, vendor.counts.received) == (1, 0)


async def test_a_lost_slot(
    client: httpx.AsyncClient, vendor: FakeVendor, slots: ConcurrencyLimiter
) -> None:
    """A limiter may take the slot away in the middle of a call; its error is a WebError, too."""

    @asynccontextmanager
    async def lost() -> AsyncIterator[None]:
        yield
        raise OSError("the lease is gone")

    vendor.script = OK
    api = api_at(vendor.origin, client, slots, limiter=lost)
    await failure(ask(api), WebBusyError)


@pytest.mark.parametrize("status", [401, 402, 403, 429, 500])
async def test_the_vendors_words_about_the_account_stay_out(
    api: VendorAPI, vendor: FakeVendor, status: int
) -> None:
    """What concerns the operator is not told to users: the status must do."""
    words = f"the key {KEY} of ACME Ltd. is over its plan"
    vendor.script = answer({"message": words}, status=status)
    with pytest.raises(WebError) as raised:
        await ask(api)
    assert "ACME" not in str(raised.value)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"msg": "blocked by\\n\\u001b[31m the site"}', "Vendor answered 400: blocked by [31m"),
        (b'{"detail": {"error": "blocked"}}', "Vendor answered 400: blocked"),
        (b'{"error": {"message": "captcha"}}', "Vendor answered 400: captcha"),
        (f"blocked for {KEY}".encode(), "Vendor answered 400: blocked for …"),
        (b"blocked " + b"x" * 500, "blocked " + "x" * 192),
    ],
)
async def test_the_vendors_words_about_the_page_are_told(
    api: VendorAPI, vendor: FakeVendor, body: bytes, told: str
) -> None:
    """They decide what the error is, and are quoted: in one short line, the key taken out."""
    vendor.script = Script(body=body, status=400)
    message = str(await failure(ask(api), BlockedPageError))
    assert told in message
    assert message.isprintable()
    assert len(message) < 250


@pytest.mark.parametrize("body", [b"<h1>Blocked</h1>", b"\xff\xfe", b"[]", b'{"msg": 5}'])
async def test_a_refusal_without_words(api: VendorAPI, vendor: FakeVendor, body: bytes) -> None:
    """What no vendor would say, such as a proxy's page, is not quoted as its words."""
    vendor.script = Script(body=body, status=400)
    assert "<" not in str(await failure(ask(api), BadAnswerError))


async def test_a_refusal_that_breaks_off(api: VendorAPI, vendor: FakeVendor) -> None:
    """The status counts, even if the words beside it are lost."""
    vendor.script = Script(body=b"x" * 100, status=401, at_byte={50: Action.CUT})
    await failure(ask(api), BadKeyError)
    assert vendor.counts.received == 1


async def test_a_question_that_is_not_unicode(api: VendorAPI, vendor: FakeVendor) -> None:
    """Half a surrogate pair, which a client's JSON may hold, is refused here."""
    await failure(ask(api, "\ud800"), BadAnswerError)
    assert vendor.counts.received == 0


@pytest.mark.parametrize("key", ["", "a key", "key\n", "kéy", "key\x00"])
async def test_a_key_that_no_header_can_carry(
    client: httpx.AsyncClient, slots: ConcurrencyLimiter, key: str
) -> None:
    """It is refused when it is given, as later errors would quote it; this one does not."""
    with pytest.raises(ValueError, match="printable") as raised:
        VendorAPI(client, name="V", base_url="http://v", api_key=key, limiter=slots.slot)
    assert not key or key not in str(raised.value)


async def test_the_key_is_in_no_repr(api: VendorAPI) -> None:
    """Whoever logs the object, or what it holds, does not log the key by its headers."""
    held = {name: value for name, value in vars(api).items() if name != "_key"}
    assert KEY not in repr(api) + repr(held)


async def test_a_defect_is_not_disguised(
    client: httpx.AsyncClient, vendor: FakeVendor, slots: ConcurrencyLimiter
) -> None:
    """What is no failure of the vendor or of the limiter comes out as it is."""
    api = api_at(vendor.origin, client, slots)
    await client.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await ask(api)
    assert slots.in_flight == 0
