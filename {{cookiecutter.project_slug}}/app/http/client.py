"""The one HTTP client of the service, built in one place.

A client per call would pay a TLS handshake per call and run out of sockets. This
one pools its connections, and its transport is aiohttp's: at 50 calls at once httpx's own
pool takes ten times the CPU. Nobody but the lifespan opens or closes it.

What aiohttp's transport does not do: HTTP/2, and a timeout for writing.
"""

from http.cookiejar import CookieJar, DefaultCookiePolicy

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

MAX_HEADER = 64 * 1024
"""Bytes of one header field of a response."""
KEEPALIVE = 30
"""Seconds an idle connection is kept; providers close theirs after a minute or more."""


def build_http_client(*, max_connections: int, connect_timeout: float) -> httpx.AsyncClient:
    """Build the client; use it as an async context manager, inside a running loop.

    `max_connections` must be no smaller than the number of calls in flight: a call that waits for
    a connection fails after `connect_timeout` seconds as if the provider were unreachable.
    Reading has no timeout here: how long a provider may be silent is its caller's to
    say. Proxies are taken from the environment. Cookies are never kept: all users would share
    them.
    """

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=max_connections, keepalive_timeout=KEEPALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=True,
            max_field_size=MAX_HEADER,
        )

    return httpx.AsyncClient(
        transport=AiohttpTransport(client=session),
        timeout=httpx.Timeout(connect_timeout, read=None, write=None),
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
    )
