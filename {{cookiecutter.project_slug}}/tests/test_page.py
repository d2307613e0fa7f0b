"""The chat page, as a browser gets it."""

from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx

from tests.service import serve


class Page(HTMLParser):
    """What of an HTML page its content security policy is about."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []
        self.text: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the element loads, and what it says inline."""
        self._open.append(tag)
        for name, value in attrs:
            if name == "src" or (name, tag) == ("href", "link"):
                self.loads.append(value or "")
            if name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        """Note the first text in each kind of element."""
        if data.strip():
            self.text.setdefault(self._open[-1], data.strip())


async def get(path: str) -> httpx.Response:
    """Get a path from a running service."""
    async with serve() as service:
        return await service.client.get(path)


async def test_the_page_is_at_the_root() -> None:
    """`GET /` is an HTML page with a title, which a new release replaces at once."""
    response = await get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert Page(response.text).text["title"]


async def test_the_page_needs_nothing_from_elsewhere() -> None:
    """Whatever the page loads, the service itself serves, with the type that browsers insist on."""
    async with serve() as service:
        page = Page((await service.client.get("/")).text)
        files = [path for path in page.loads if not path.startswith("data:")]
        types = {}
        for path in files:
            response = await service.client.get(urljoin(f"{service.url}/", path))
            assert response.status_code == 200
            assert response.headers["x-content-type-options"] == "nosniff"
            types[path] = response.headers["content-type"]
    assert types == {
        "page.css": "text/css; charset=utf-8",
        "page.js": "text/javascript; charset=utf-8",
    }


async def test_the_policy_keeps_strangers_out() -> None:
    """Only the page's own script runs, it talks to its own service, and no frame shows it."""
    policy = (await get("/")).headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'"} <= set(policy)
    assert {"base-uri 'none'", "frame-ancestors 'none'"} <= set(policy)
    assert "require-trusted-types-for 'script'" in policy


async def test_the_page_keeps_to_its_policy() -> None:
    """No script, style or handler stands in the page itself: the policy would not let it work."""
    response = await get("/")
    page = Page(response.text)
    assert "unsafe" not in response.headers["content-security-policy"]
    assert page.inline == []
    assert not {"script", "style"} & page.text.keys()
