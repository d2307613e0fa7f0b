"""Who a client is where there are no API keys."""

import pytest

from app.clients import client_at


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1::7", "2001:db8:0:1::/64"),
        ("2001:DB8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::7", "2001:db8:0:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:8000", "unknown"),
        ("someone\nelse", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_client_is_its_address(address: str | None, name: str) -> None:
    """An IPv4 client is its address, an IPv6 client its /64: it has all addresses of it."""
    assert client_at(address).name == f"address:{name}"
