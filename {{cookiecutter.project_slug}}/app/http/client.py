"""The HTTP client that all calls of a process share, built in one place.

A client per call would pay a TLS handshake per call and run out of sockets. This one keeps its
connections. Requests to hosts for which the environment names a proxy go through httpx's own
transport, all others through the one of this package.

Certificates are those of SSL_CERT_FILE or SSL_CERT_DIR, else certifi's.
"""

import ssl
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.request import getproxies

import httpx

from .transport import AsyncioTransport

KEEPALIVE = 30
"""Seconds an idle connection is kept; providers close theirs after a minute or more."""


def build_http_client(*, max_connections: int, connect_timeout: float) -> httpx.AsyncClient:
    """Build the client; use it as an async context manager.

    `max_connections` must be no smaller than the number of calls in flight: a call that waits for
    a connection fails after `connect_timeout` seconds. Reading and writing have no timeout here:
    how long a server may be silent is the caller's decision. Redirects are not followed. Cookies
    are never kept: all users would share them.
    """
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    limits = httpx.Limits(max_connections=max_connections, keepalive_expiry=KEEPALIVE)
    return httpx.AsyncClient(
        transport=AsyncioTransport(
            max_connections=max_connections, keepalive=KEEPALIVE, context=context
        ),
        mounts=_proxy_mounts(context, limits),
        timeout=httpx.Timeout(connect_timeout, read=None, write=None),
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
    )


class ProxyTransport(httpx.AsyncHTTPTransport):
    """httpx's own transport; an error of connecting names the proxy, without its password."""

    def __init__(self, proxy: str, context: ssl.SSLContext, limits: httpx.Limits) -> None:
        self._proxy = httpx.Proxy(proxy if "://" in proxy else f"http://{proxy}")
        super().__init__(proxy=self._proxy, verify=context, limits=limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request through the proxy."""
        try:
            return await super().handle_async_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise type(error)(f"via the proxy {self._proxy.url}: {error}") from error


def _proxy_mounts(
    context: ssl.SSLContext, limits: httpx.Limits
) -> dict[str, httpx.AsyncBaseTransport | None]:
    """Read HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, as httpx does without a transport."""
    proxies = getproxies()
    direct = [host.strip() for host in proxies.get("no", "").split(",") if host.strip()]
    if "*" in direct:
        return {}
    mounts: dict[str, httpx.AsyncBaseTransport | None] = {
        f"{scheme}://": ProxyTransport(proxies[scheme], context, limits)
        for scheme in ("http", "https", "all")
        if proxies.get(scheme)
    }
    for host in direct:  # includes its subdomains
        mounts[f"all://[{host}]" if host.count(":") > 1 else f"all://*{host}"] = None
    return mounts
