"""Which URLs of users may be fetched: public web pages, and nothing inside anybody's network.

    url = check_url(url)                 # what its text says, without asking anybody
    check = partial(check_public_url, resolve=Resolver())
    url = await check(url)               # and where its name leads

Refused: other schemes than http and https; credentials; hosts that are, or by DNS have, any address
that is not a public one (private, shared, loopback, link-local, multicast, reserved, the clouds'
metadata services), also inside an IPv6 address; addresses in any other spelling than the usual;
names of one label, and those for local use; and characters at which parsers disagree.

Both return the URL with its host in the one spelling that was checked, so that who fetches it
reads no other host in it.

What this cannot do: the vendor fetches the page, not we. So redirects are the vendor's to check,
and a name that leads elsewhere when it is asked for again ("DNS rebinding") leads the vendor there,
into its network and not into ours. Whoever fetches pages from here must connect to the very
addresses that were checked, and check each redirect anew.

Needs: idna (httpx brings it), and `protocol.py` beside it.
Sources: RFC 6761 and 6762, 8375 (names for local use); RFC 6052 and 3056 (IPv4 in IPv6); IANA's
special-purpose address registries, as `ipaddress` knows them; https://url.spec.whatwg.org/#host-parsing
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from threading import Thread
from urllib.parse import SplitResult, urlsplit

import idna

from .protocol import ForbiddenURLError, VendorUnavailableError

Address = IPv4Address | IPv6Address
URLCheck = Callable[[str], Awaitable[str]]
Resolve = Callable[[str], Awaitable[Iterable[str]]]
"""Returns the addresses of a name; an OSError where there are none, or none to be had."""

MAX_LENGTH = 2000
LOCAL_NAMES = ("localhost", "localdomain", "local", "internal", "intranet", "lan", "home.arpa")
NOT_PUBLIC = (
    ip_network("168.63.129.16/32"),  # Azure's metadata and DNS, an address like any other
    ip_network("192.0.0.0/24"),  # the IETF's own, Oracle's metadata among them; Pythons differ
)
PUBLIC_IPV6 = ip_network("2000::/3")
"""All that is allotted for use in public: RFC 4291, 2.4."""
NAT64 = ip_network("64:ff9b::/96")
NAME = re.compile(r"(?=.{1,253}$)(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))+")
LOOKS_LIKE_NUMBER = re.compile(r"(^|\.)(0x[0-9a-f]*|[0-9]+)$")
NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


def check_url(url: str) -> str:
    """Return the URL as it is to be fetched; ForbiddenURLError, in one line, if it must not be."""
    if len(url) > MAX_LENGTH:
        raise ForbiddenURLError(f"the URL has {len(url)} characters, of {MAX_LENGTH} it may have")
    if not url.isprintable() or " " in url or "\\" in url:
        raise ForbiddenURLError("the URL has a space, a backslash or a control character in it")
    parts = _split(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ForbiddenURLError("the URL must begin with http:// or https://")
    if "@" in parts.netloc:
        raise ForbiddenURLError("the URL has credentials in it")
    host = _host(parts.hostname or "", bracketed="[" in parts.netloc)
    port = "" if parts.port is None else f":{parts.port}"
    return parts._replace(netloc=f"{host}{port}").geturl()


async def check_public_url(url: str, *, resolve: Resolve, within: float = 5.0) -> str:
    """Do what `check_url` does, and see that the host's name has public addresses only.

    VendorUnavailableError if there is no answer within so many seconds.
    """
    url = check_url(url)
    host = urlsplit(url).hostname or ""
    try:
        async with asyncio.timeout(within):
            addresses = [ip_address(found) for found in await resolve(host)]
    except OSError as error:  # a TimeoutError is one
        if isinstance(error, socket.gaierror) and error.errno in NO_SUCH_NAME:
            raise ForbiddenURLError(f"there is no host {host}") from error
        raise VendorUnavailableError(f"the host {host} cannot be looked up now") from error
    if not addresses or not all(map(_is_public, addresses)):
        raise ForbiddenURLError(f"{host} is not a public host")
    return url


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 -- it is checked when it is read
    except ValueError as error:
        raise ForbiddenURLError("the URL is not a valid one") from error
    return parts


def _host(host: str, *, bracketed: bool) -> str:
    """Return a host that may be asked, as it is written in a URL."""
    if bracketed:
        return f"[{_public(host)}]"
    name = _ascii(host).removesuffix(".")
    if LOOKS_LIKE_NUMBER.search(name):
        return str(_public(name))
    local = name.endswith(tuple(f".{local}" for local in LOCAL_NAMES))
    if local or not NAME.fullmatch(name):
        raise ForbiddenURLError(f"{host!r} is not the name of a public host")
    return name


def _ascii(host: str) -> str:
    """Return the name that is asked for: other scripts as xn--, look-alikes as what they mean."""
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True).decode()
    except UnicodeError as error:
        raise ForbiddenURLError(f"{host!r} is not a valid name of a host") from error


def _public(literal: str) -> Address:
    """Return an address that is public; others, and other spellings, are not accepted."""
    try:
        address = ip_address(literal)
    except ValueError as error:
        raise ForbiddenURLError(f"{literal!r} is not an address in its usual form") from error
    if "%" in literal or not _is_public(address):  # behind %, an interface: of whose machine?
        raise ForbiddenURLError(f"{literal} is not a public address")
    return address


def _is_public(address: Address) -> bool:
    address = _inside(address)
    if isinstance(address, IPv6Address) and address not in PUBLIC_IPV6:
        return False
    listed = any(address in network for network in NOT_PUBLIC)
    return address.is_global and not (listed or address.is_multicast)


def _inside(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


def addresses_of(host: str) -> Iterable[str]:
    """Return the addresses of a name as the system knows them; may block for half a minute."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return {str(address[0]) for *_, address in found}


class Resolver:
    """A Resolve that has `look_up` called in threads of its own, `threads` at once.

    Whoever owns a name can let its DNS server say nothing, and a look-up cannot be stopped: one
    that is given up keeps its thread until it ends, and while all are taken the others wait. That
    costs only those who look up names. There is nothing to close: a thread ends with its look-up
    and, as a daemon, does not hold up the end of the process.
    """

    def __init__(
        self, look_up: Callable[[str], Iterable[str]] = addresses_of, *, threads: int = 4
    ) -> None:
        self._look_up = look_up
        self._free = asyncio.Semaphore(threads)

    async def __call__(self, host: str) -> Iterable[str]:
        """Return what `look_up` does, or raise its error; a cancel is at once."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Iterable[str]] = loop.create_future()
        await self._free.acquire()
        try:
            Thread(target=self._run, args=(host, loop, answer), daemon=True).start()
        except BaseException:  # there is no thread to be had
            self._free.release()
            raise
        return await answer

    def _run(
        self, host: str, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Iterable[str]]
    ) -> None:
        try:
            settle = partial(answer.set_result, self._look_up(host))
        except Exception as error:  # noqa: BLE001 -- it is raised where the answer is awaited
            settle = partial(answer.set_exception, error)
        with suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(self._ended, answer, settle)

    def _ended(self, answer: asyncio.Future[Iterable[str]], settle: Callable[[], None]) -> None:
        self._free.release()
        if not answer.done():  # as it is where it was given up
            settle()
