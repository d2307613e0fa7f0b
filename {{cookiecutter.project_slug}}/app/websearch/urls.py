"""Which URLs may be sent to a vendor that fetches pages: those of public web pages.

Refused: other schemes than http and https; credentials; addresses that are not public, also inside
an IPv6 address, and any address in an unusual spelling; names for local use, and of one label; and
characters at which parsers disagree. Names are not looked up: the vendor fetches the page, so
that it resolves the name, follows redirects and checks where they lead.

Needs: idna, and `base.py` beside it.
Sources: RFC 6761, 6762 and 8375 (names for local use); RFC 6052 and 3056 (IPv4 in IPv6); IANA's
special-purpose registries, as `ipaddress` knows them; https://url.spec.whatwg.org/#host-parsing
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

import idna

from .base import ForbiddenURLError

MAX_LENGTH = 2000
LOCAL_NAMES = ("localhost", "localdomain", "local", "internal", "intranet", "lan", "home.arpa")
NOT_PUBLIC = (
    ip_network("168.63.129.16/32"),  # Azure's metadata service, in a public range
    ip_network("192.0.0.0/24"),  # IETF's own; Python versions differ on it
)
PUBLIC_IPV6 = ip_network("2000::/3")  # RFC 4291, 2.4
NAT64 = ip_network("64:ff9b::/96")
NAME = re.compile(r"(?=.{1,253}$)(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))+")
LOOKS_LIKE_NUMBER = re.compile(r"(^|\.)(0x[0-9a-f]*|[0-9]+)$")


def check_url(url: str) -> str:
    """Return the URL with its host in the one spelling that was checked, or ForbiddenURLError."""
    if len(url) > MAX_LENGTH:
        raise ForbiddenURLError(f"the URL has {len(url)} characters; at most {MAX_LENGTH} allowed")
    if not url.isprintable() or " " in url or "\\" in url:
        raise ForbiddenURLError("the URL contains a space, a backslash or a control character")
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError as error:
        raise ForbiddenURLError("the URL is not valid") from error
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ForbiddenURLError("the URL must begin with http:// or https://")
    if "@" in parts.netloc:
        raise ForbiddenURLError("the URL contains credentials")
    host = _host(parts.hostname or "", bracketed="[" in parts.netloc)
    return parts._replace(netloc=f"{host}{port}").geturl()


def _host(host: str, *, bracketed: bool) -> str:
    if bracketed:
        return f"[{_public(host)}]"
    try:  # other scripts become xn--, and look-alikes what they look like
        name = host if host.isascii() else idna.encode(host, uts46=True).decode()
    except UnicodeError as error:
        raise ForbiddenURLError(f"{host!r} is not a valid host name") from error
    name = name.removesuffix(".")
    if LOOKS_LIKE_NUMBER.search(name):
        return _public(name)
    local = name.endswith(tuple(f".{local}" for local in LOCAL_NAMES))
    if local or not NAME.fullmatch(name):
        raise ForbiddenURLError(f"{host!r} is not the name of a public host")
    return name


def _public(literal: str) -> str:
    """Return an address in its usual spelling, if it is public and was spelled so."""
    try:
        address = ip_address(literal)
    except ValueError as error:
        raise ForbiddenURLError(f"{literal!r} is not an address in its usual form") from error
    if "%" in literal or not _is_public(address):
        raise ForbiddenURLError(f"{literal} is not a public address")
    return str(address)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        embedded = IPv4Address(int(address) & 0xFFFF_FFFF) if address in NAT64 else None
        address = embedded or address.ipv4_mapped or address.sixtofour or address
    if isinstance(address, IPv6Address) and address not in PUBLIC_IPV6:
        return False
    listed = any(address in network for network in NOT_PUBLIC)
    return address.is_global and not (listed or address.is_multicast)
