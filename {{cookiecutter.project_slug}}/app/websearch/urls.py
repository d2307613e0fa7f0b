"""Which URLs may be sent to a vendor that fetches pages: those of public web pages.

Refused: other schemes than http and https; credentials; IPv6 addresses; IPv4 addresses that are
not public or in an unusual spelling; names for local use, and of one label; and characters at
which parsers disagree. Names are not looked up: the vendor fetches the page, so that it resolves
the name, follows redirects and checks where they lead.

Needs: idna, and `base.py` beside it.
Sources: RFC 6761, 6762 and 8375 (names for local use); IANA's special-purpose registries, as
`ipaddress` knows them; https://url.spec.whatwg.org/#host-parsing
"""

import re
from contextlib import suppress
from ipaddress import IPv4Address, ip_network
from urllib.parse import urlsplit

import idna

from .base import ForbiddenURLError

MAX_LENGTH = 2000
LOCAL_NAME = re.compile(r"\.(localhost|localdomain|local|internal|intranet|lan|home\.arpa)$")
NOT_PUBLIC = (
    ip_network("168.63.129.16/32"),  # Azure's metadata service, in a public range
    ip_network("192.0.0.0/24"),  # IETF's own; Python versions differ on it
)
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
    if "@" in parts.netloc or "[" in parts.netloc:
        raise ForbiddenURLError("the URL contains credentials or an IPv6 address")
    return parts._replace(netloc=f"{_host(parts.hostname or '')}{port}").geturl()


def _host(host: str) -> str:
    name, is_public = "", False
    with suppress(ValueError):  # other scripts become xn--, and look-alikes what they look like
        name = host if host.isascii() else idna.encode(host, uts46=True).decode()
        name = name.removesuffix(".")
        if LOOKS_LIKE_NUMBER.search(name):
            address = IPv4Address(name)
            listed = address.is_multicast or any(address in network for network in NOT_PUBLIC)
            is_public = address.is_global and not listed
        else:
            is_public = bool(NAME.fullmatch(name) and not LOCAL_NAME.search(name))
    if not is_public:
        raise ForbiddenURLError(f"{host!r} is not the name or the IPv4 address of a public host")
    return name
