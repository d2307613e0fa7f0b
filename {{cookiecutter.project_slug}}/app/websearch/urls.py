"""Which URLs may be sent to a vendor that fetches pages: those of public web pages.

Refused: other schemes than http and https; credentials; IPv6 addresses; IPv4 addresses that are
not public; names for local use, and of one label. Names are not looked up: the vendor fetches the
page, so that it resolves the name, follows redirects and checks where they lead.

Needs: pydantic-core, whose parser is that of the WHATWG's URL standard, and `base.py` beside it.
Sources: RFC 6761, 6762 and 8375 (names for local use); IANA's special-purpose registries, as
`ipaddress` knows them.
"""

import re
from ipaddress import AddressValueError, IPv4Address, ip_network

from pydantic_core import Url

from .base import ForbiddenURLError

MAX_LENGTH = 2000
LOCAL_NAME = re.compile(r"\.(localhost|localdomain|local|internal|intranet|lan|home\.arpa)$")
NOT_PUBLIC = (
    ip_network("168.63.129.16/32"),  # Azure's metadata service, in a public range
    ip_network("192.0.0.0/24"),  # IETF's own; Python versions differ on it
)


def check_url(url: str) -> str:
    """Return the URL in the one spelling that was checked, or raise ForbiddenURLError."""
    if len(url) > MAX_LENGTH:
        raise ForbiddenURLError(f"the URL has {len(url)} characters; at most {MAX_LENGTH} allowed")
    try:
        parsed = Url(url)
    except ValueError:  # its message would quote the URL
        raise ForbiddenURLError("the URL is not valid") from None
    if parsed.scheme not in {"http", "https"}:
        raise ForbiddenURLError("the URL must begin with http:// or https://")
    if parsed.username or parsed.password:
        raise ForbiddenURLError("the URL contains credentials")
    if not _is_public(parsed.host or ""):
        raise ForbiddenURLError(f"{parsed.host!r} is not the name or IPv4 address of a public host")
    return str(parsed)


def _is_public(host: str) -> bool:
    try:
        address = IPv4Address(host)
    except AddressValueError:
        name = host.removesuffix(".")  # an IPv6 address has no dot
        return "." in name and all(name.split(".")) and not LOCAL_NAME.search(name)
    listed = address.is_multicast or any(address in network for network in NOT_PUBLIC)
    return address.is_global and not listed
