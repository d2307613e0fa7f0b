"""API keys, and the clients that they belong to."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from pydantic import SecretStr

NAME = re.compile(r"[\w.-]+")
KEY = re.compile("[!-~]+")
"""What a header field can carry as it is."""
CLIENT_PREFIX = 64
"""Bits of an IPv6 address that identify a client: it can choose the others at will."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client: the name of its key, or its address where the service has no keys."""

    name: str


def client_at(address: str | None) -> Client:
    """Identify a client by its address, of IPv6 by the network of which a client has all."""
    try:
        ip = ip_address(address or "")
    except ValueError:  # a Unix socket has none, and a proxy may send anything
        return Client("address:unknown")
    if isinstance(ip, IPv6Address):
        where = ip.ipv4_mapped or ip_network((int(ip), CLIENT_PREFIX), strict=False)
        return Client(f"address:{where}")
    return Client(f"address:{ip}")


class Keyring:
    """The accepted keys; without any, every client is accepted.

    They are kept as digests, so that no dump or log of this object shows a key, and that the time
    of a look-up reveals nothing of one.
    """

    def __init__(self, keys: Mapping[str, SecretStr]) -> None:
        self._clients = {
            _digest(key.get_secret_value()): Client(name) for name, key in keys.items()
        }

    @property
    def is_open(self) -> bool:
        """Whether no key is needed."""
        return not self._clients

    def client_with(self, key: str) -> Client | None:
        """Find the client with this key."""
        return self._clients.get(_digest(key))


def parse_keys(entries: Iterable[str]) -> dict[str, str]:
    """Read entries of `name:key`; ValueError, without a key in it, where that is impossible."""
    keys: dict[str, str] = {}
    for entry in entries:
        name, _, key = entry.partition(":")
        if not (KEY.fullmatch(key) and NAME.fullmatch(name)):
            raise ValueError(
                "each entry should be name:key, the name of letters, digits, - _ . "
                "and the key of ASCII without blanks"
            )
        if name in keys or key in keys.values():
            raise ValueError("each name and each key should occur once")
        keys[name] = key
    return keys


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
