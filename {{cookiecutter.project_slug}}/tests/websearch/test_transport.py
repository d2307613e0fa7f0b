"""SERPpost's client over real sockets: what breaks."""

from contextlib import nullcontext

import pytest
import stamina

from app.http.client import build_http_client
from app.websearch.base import WebError, WebUnavailableError
from app.websearch.serppost import SerppostClient
from tests.upstream import Action, Script

from .fake_vendor import KEY, PAGE_URL, FakeVendor, failure, page


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        (page(at_byte={9: Action.CUT}), WebUnavailableError, "cannot be reached"),
        (page(before_headers=b"SSH-2.0\r\n\r\n"), WebUnavailableError, "cannot be reached"),
        (page(status=302, headers={"location": "/elsewhere"}), WebError, "answered 302"),
        (Script(body=b"x" * 50_000_000), WebError, "more than the 5000000 bytes allowed"),
    ],
    ids=["cut", "not HTTP", "redirect", "too large"],
)
async def test_what_goes_wrong_on_the_wire(
    script: Script, kind: type[WebError], message: str
) -> None:
    """Only a broken connection is retried; none is left open by an answer that is not read."""
    async with (
        FakeVendor(script) as vendor,
        build_http_client(max_connections=9, connect_timeout=60.0) as client,
        SerppostClient(client, api_key=KEY, slot=nullcontext, base_url=vendor.origin) as web,
    ):
        with stamina.set_testing(True, attempts=2):
            assert message in str(await failure(web.page(PAGE_URL), kind))
        assert vendor.counts.received == (2 if kind is WebUnavailableError else 1)
        vendor.script = page()
        assert await web.page(PAGE_URL) == "# Hello"
        await vendor.wait_until(lambda counts: counts.open_connections <= 1)
