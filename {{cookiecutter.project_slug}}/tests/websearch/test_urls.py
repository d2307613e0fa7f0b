"""Only public pages may be fetched, however a URL is spelled."""

import pytest

from app.websearch.base import ForbiddenURLError
from app.websearch.urls import check_url


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("HTTP://Example.COM:80/A?b=C#d", "http://example.com/A?b=C#d"),
        ("https://sub_domain.example.co.uk:8443/",) * 2,
        ("https://münchen.de/straße", "https://xn--mnchen-3ya.de/stra%C3%9Fe"),
        ("https://\uff45\uff58ample\u3002com", "https://example.com/"),
        ("http://93.184.216.34/",) * 2,
        ("http://0x5db8d822/", "http://93.184.216.34/"),
        ("https://exam\tple.com\\a b", "https://example.com/a%20b"),
        ("https://localhost.example.com/?to=http://127.0.0.1/@x",) * 2,
        ("https://example.com/".ljust(2000, "x"),) * 2,
    ],
)
def test_a_public_page_passes(url: str, checked: str) -> None:
    """It comes back in the one spelling that was checked."""
    assert check_url(url) == checked == check_url(checked)


ADDRESSES = (
    "127.0.0.1 127.255.255.254 0.0.0.0 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 "
    "100.100.100.200 168.63.129.16 192.0.0.192 192.0.2.1 198.18.0.1 224.0.0.1 240.0.0.1 "
    "255.255.255.255 [::1] [fe80::1] [::ffff:127.0.0.1] [2606:4700::1111] [2606:4700::1111%25eth0]"
)
ODD_SPELLINGS = (
    "2130706433 0x7f000001 0x7f.0.0.1 0x7f.1 017700000001 0177.0.0.1 127.1 0 127.0.0.1. "
    "127.000.000.001 1.2.3.4.5 999.1.1.1 \uff11\uff12\uff17.\uff10.0.\uff11 ①②⑦.⓪.⓪.① 127。0。0。1 "
    "127.0.0.0x1 %31%32%37.0.0.1 example.1 [127.0.0.1] [1]"
)
NAMES = (
    "127.0.0.1.. 169.254.169.254%2E%2E a..b .example.com "
    "localhost LOCALHOST. a.localhost a.localhost.. ⓛocalhost localhost.localdomain redis com "
    "x.INTERNAL metadata.google.internal printer.local router.lan nas.home.arpa example.com%00 "
    "127.0.0.1\\@example.com ℀.com xn--\xfc.de example.com:port example.com:99999 "
    "user:secret@example.com :secret@example.com example.com:80@127.0.0.1"
)
NO_PAGES = [
    "", "example.com", "//example.com/", "http:", "http:///path", "http://?x", "http://:80/",
    "ftp://example.com/", "file:///etc/passwd", "javascript:alert(1)", "data:text/html,x",
    "https://exam\x00ple.com/", "http://[", "http://[v1.x]/", "http://\ud800.example.com",
    "https://example.com/".ljust(2001, "x"),
]  # fmt: skip


@pytest.mark.parametrize(
    "url",
    [*(f"http://{host}/" for host in f"{ADDRESSES} {ODD_SPELLINGS} {NAMES}".split()), *NO_PAGES],
)
def test_what_is_not_a_public_page_is_refused(url: str) -> None:
    """In one line, which does not quote a password."""
    with pytest.raises(ForbiddenURLError) as raised:
        check_url(url)
    assert str(raised.value).isprintable()
    assert "secret" not in str(raised.value)
