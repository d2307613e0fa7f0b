"""Only public pages are fetched, however a URL is spelled and wherever its name leads."""

import asyncio
import socket
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ingestion.protocol import ForbiddenURLError, VendorUnavailableError
from app.ingestion.urls import Resolver, check_public_url, check_url


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("https://example.com", "https://example.com"),
        ("HTTP://Example.COM/A?b=C#d", "http://example.com/A?b=C#d"),
        ("https://example.com./", "https://example.com/"),
        ("https://example.com:8443/", "https://example.com:8443/"),
        ("https://example.com:/", "https://example.com/"),
        ("https://sub_domain.example.co.uk/", "https://sub_domain.example.co.uk/"),
        ("https://münchen.de/straße", "https://xn--mnchen-3ya.de/straße"),
        ("https://\uff45\uff58ample\u3002com/", "https://example.com/"),
        ("https://faß.de/", "https://xn--fa-hia.de/"),
        ("http://93.184.216.34/", "http://93.184.216.34/"),
        ("http://[2606:4700:0:0::1111]:80/", "http://[2606:4700::1111]:80/"),
        ("https://1.example.com/", "https://1.example.com/"),
        ("https://0x7f.example.com/", "https://0x7f.example.com/"),
        ("https://localhost.example.com/", "https://localhost.example.com/"),
        ("https://example.com/?to=http://127.0.0.1/@x", "https://example.com/?to=http://127.0.0.1/@x"),
    ],
)  # fmt: skip
def test_a_public_page_passes(url: str, checked: str) -> None:
    """It comes back with its host in one spelling, and with the rest as it was."""
    assert check_url(url) == checked


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com", "//example.com/", "/path", "http:", "http:example.com", "http:///path",
        "https:/example.com", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/",
        "data:text/html,x", "javascript:alert(1)", "view-source:http://example.com/",
        "https://example.com/a b", "https://example.com/a\\b", "https://example.com/a\nb", "http://?x",
        "http://:80/", "http://[", "http://[]/", "http://[v1.x]/", "http://[::1",
    ],
)  # fmt: skip
def test_what_is_no_page_is_refused(url: str) -> None:
    """A URL is http:// or https:// and a host."""
    with pytest.raises(ForbiddenURLError):
        check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:password@example.com/", "http://user@example.com/", "http://@example.com/",
        "http://example.com@127.0.0.1/", "http://example.com:80@127.0.0.1/",
    ],
)  # fmt: skip
def test_credentials_are_refused(url: str) -> None:
    """They would be told to the vendor; and they hide what the host is. They are not quoted."""
    with pytest.raises(ForbiddenURLError, match="credentials") as raised:
        check_url(url)
    assert "password" not in str(raised.value)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1",
        "169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "168.63.129.16",
        "192.0.0.192", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1",
        "255.255.255.255", "[::]", "[::1]", "[fe80::1]", "[fec0::1]", "[fc00::1]",
        "[fd00:ec2::254]", "[ff02::1]", "[2001:db8::1]", "[::ffff:127.0.0.1]", "[::ffff:a00:1]",
        "[::127.0.0.1]", "[64:ff9b::10.0.0.1]", "[64:ff9b:1::8.8.8.8]", "[2002:7f00:1::]",
        "[2001:0:4136:e378:8000:63bf:3fff:fdd2]", "[100::1]", "[fe80::1%25eth0]",
        "[2606:4700::1111%25eth0]",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    """Private, shared, loopback, link-local, metadata, multicast, reserved; also inside IPv6."""
    with pytest.raises(ForbiddenURLError):
        check_url(f"http://{address}/")


@pytest.mark.parametrize(
    "host",
    [
        "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "017700000001", "0177.0.0.1", "127.1",
        "127.0.1", "0", "127.0.0.1.", "127.0.0.1..", "127.000.000.001", "1.2.3.4.5", "999.1.1.1",
        "\uff11\uff12\uff17.\uff10.0.\uff11", "①②⑦.⓪.⓪.①", "127。0。0。1",
        "127.0.0.0x1", "127.0.0.0x", "%31%32%37.0.0.1",
        "0x08080808", "010.8.8.8", "134744072", "٣.٣.٣.٣", "example.1", "[127.0.0.1]", "[1]",
    ],
)  # fmt: skip
def test_an_address_in_an_odd_spelling_is_refused(host: str) -> None:
    """Parsers read numbers differently, so there is one spelling of an address, public or not."""
    with pytest.raises(ForbiddenURLError):
        check_url(f"http://{host}/")


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST", "localhost.", "a.localhost", "ⓛocalhost", "localhost.localdomain",
        "metadata", "metadata.google.internal", "metadata.google.internal.", "x.INTERNAL",
        "printer.local", "router.lan", "nas.home.arpa", "kubernetes.default.svc.cluster.local",
        "redis", "com", "a..b", ".example.com", "example..com", "-a.example.com", "a-.example.com",
        "exa mple.com", "exa%20mple.com", "example.com%00", "exam\x00ple.com", "example.com\\@x",
        "exam\tple.com", "exam\nple.com", "exam\u200bple.com", "\ud800.example.com",
        "a" * 64 + ".de", "a." * 127 + "de", "℀.com", "例え..com", "xn--\xfc.de",
        "example.com:port", "example.com:99999",
    ],
)  # fmt: skip
def test_a_name_that_is_not_public_is_refused(host: str) -> None:
    """Names for local use, of one label, or that no parser, or not each, would take."""
    with pytest.raises(ForbiddenURLError):
        check_url(f"http://{host}/")


def test_a_url_has_a_bound() -> None:
    """A URL may have 2,000 characters; the error says how many there were."""
    assert check_url("https://example.com/".ljust(2000, "x"))
    with pytest.raises(ForbiddenURLError, match="2001"):
        check_url("https://example.com/".ljust(2001, "x"))


HOSTS = st.text(alphabet="0123456789abcdefx.:[]%@/\\-_ ①。Lo\u00ad\t", max_size=30) | st.text()


@given(st.builds("{}://{}/{}".format, st.sampled_from(["http", "https"]), HOSTS, st.text()))
def test_whatever_passes_stays_and_is_public(url: str) -> None:
    """Any URL is refused, or comes back as one that comes back as it is, with a public host."""
    with suppress(ForbiddenURLError):
        checked = check_url(url)
        assert check_url(checked) == checked
        parts = urlsplit(checked)
        host = parts.hostname or ""
        assert host.isascii()
        assert parts.netloc.rpartition(":")[0] in {"", host, f"[{host}]"} or "[" in parts.netloc
        if ":" in host or host.replace(".", "").isdigit():
            assert not ip_address(host).is_private or ip_address(host).version == 6


@given(st.ip_addresses(v=4))
def test_an_address_passes_only_if_it_is_global(address: object) -> None:
    """What `ipaddress` does not call global never passes."""
    with suppress(ForbiddenURLError):
        assert ip_address(urlsplit(check_url(f"http://{address}/")).hostname or "").is_global


@pytest.mark.parametrize("prefix", ["::ffff:0:0", "64:ff9b::", "2002::"])
@given(st.ip_addresses(v=4))
def test_an_address_inside_another_counts(prefix: str, address: object) -> None:
    """An IPv4 address within an IPv6 one passes if, and only if, it passes by itself."""
    number = int(ip_address(str(address)))
    inside = number << 80 if prefix == "2002::" else number
    whole = ip_address(int(ip_address(prefix)) | inside)
    assert _passes(f"http://[{whole}]/") == _passes(f"http://{address}/")


def _passes(url: str) -> bool:
    try:
        check_url(url)
    except ForbiddenURLError:
        return False
    return True


class Names:
    """A resolver with a list."""

    def __init__(self, **addresses: list[str]) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        """Look a name up."""
        self.asked.append(host)
        return self.addresses[host.partition(".")[0]]


async def test_a_name_with_public_addresses_passes() -> None:
    """DNS is asked for the very name that is in the URL that comes back."""
    names = Names(www=["93.184.216.34", "2606:4700::1111"])
    assert await check_public_url("http://WWW.example.com./x", resolve=names) == (
        "http://www.example.com/x"
    )
    assert names.asked == ["www.example.com"]


@pytest.mark.parametrize(
    "addresses",
    [["10.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["::1"], ["fe80::1%2"], ["64:ff9b::a00:1"], []],
)
async def test_a_name_with_another_address_is_refused(addresses: list[str]) -> None:
    """One address that is not public is enough, for nobody knows which the vendor takes."""
    with pytest.raises(ForbiddenURLError, match=r"^www\.example\.com is not a public host$"):
        await check_public_url("http://www.example.com/", resolve=Names(www=addresses))


async def test_the_text_is_checked_before_dns() -> None:
    """A URL that is refused by its text is not looked up."""
    names = Names()
    with pytest.raises(ForbiddenURLError):
        await check_public_url("http://localhost/", resolve=names)
    assert names.asked == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), ForbiddenURLError),
        (socket.gaierror(socket.EAI_AGAIN, "again"), VendorUnavailableError),
        (OSError("no network"), VendorUnavailableError),
    ],
)
async def test_dns_may_fail(error: OSError, kind: type[Exception]) -> None:
    """A name that is not there is a wrong URL; a resolver that does not answer may heal."""

    async def resolve(host: str) -> list[str]:
        raise error

    with pytest.raises(kind, match=r"example\.com"):
        await check_public_url("http://example.com/", resolve=resolve)


async def test_dns_has_a_deadline() -> None:
    """A resolver that says nothing is given up."""

    async def resolve(host: str) -> list[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(VendorUnavailableError, match="looked up"):
        await check_public_url("http://example.com/", resolve=resolve, within=0.01)


async def test_the_system_is_asked() -> None:
    """A resolver asks the system unless it is told otherwise; addresses need no DNS."""
    url = "http://[2606:4700::1111]/"
    assert await check_public_url(url, resolve=Resolver(), within=60.0) == url
