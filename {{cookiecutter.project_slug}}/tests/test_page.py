"""The chat page, as a browser gets it."""

import re

from tests.service import serve

LOADED = re.compile(r'<(?:link|script|img)\b[^>]*?\b(?:href|src)="(?!data:)([^"]*)"')
INLINE = re.compile(r"<(?:script|style)\b[^>]*>\s*[^<\s]|<[^>]*\s(?:style|on\w+)=")


async def test_the_page_needs_nothing_from_elsewhere() -> None:
    """`GET /` is a page that a release replaces at once; the service serves all that it loads."""
    async with serve() as service:
        page = await service.client.get("/")
        files = [await service.client.get(f"/{path}") for path in LOADED.findall(page.text)]
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    assert [(file.status_code, file.headers["content-type"]) for file in files] == [
        (200, "text/css; charset=utf-8"),
        (200, "text/javascript; charset=utf-8"),
    ]
    assert {file.headers["x-content-type-options"] for file in files} == {"nosniff"}


async def test_only_the_pages_own_script_runs() -> None:
    """It talks to its own service, no frame shows it, and the page has nothing inline."""
    async with serve() as service:
        page = await service.client.get("/")
    policy = page.headers["content-security-policy"]
    assert {
        "default-src 'none'",
        "script-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    } <= set(policy.split("; "))
    assert "unsafe" not in policy
    assert not INLINE.search(page.text)
