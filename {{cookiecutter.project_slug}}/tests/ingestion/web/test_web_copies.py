"""Each module works in a project of another name, with what it says it needs and nothing else."""

from pathlib import Path

import pytest

import app.ingestion
from tests.copying import needs, use_copied

PACKAGE = Path(app.ingestion.__file__).parent

RETRY = """
import asyncio
from theirs.protocol import VendorUnavailableError
from theirs.retry import Retry, RetryBudget

async def main():
    failures = [VendorUnavailableError("broken")]

    async def call():
        if failures:
            raise failures.pop()
        return "healed"

    print(await Retry(RetryBudget(), first_wait=0).run(call, within=9))

asyncio.run(main())
"""

SINGLE_FLIGHT = """
import asyncio
from theirs.single_flight import SingleFlight

async def call():
    await asyncio.sleep(0)
    print("called")
    return "page"

async def main():
    async with SingleFlight() as flights:
        print(*await asyncio.gather(flights.run("a", call), flights.run("a", call)))

asyncio.run(main())
"""

VENDOR_ERRORS = """
from theirs.vendor_errors import kind_of

print(kind_of(400, "Insufficient credits").__name__)
"""

RESULTS = """
from theirs.results import results_of

print(results_of([{"title": "a", "url": "https://b"}], text_in=["content"])[0].text)
"""

URLS = """
import asyncio
from theirs.urls import check_public_url

async def resolve(host):
    return ["93.184.216.34"]

print(asyncio.run(check_public_url("http://EXAMPLE.com/", resolve=resolve)))
"""

BODY = """
import asyncio, httpx
from theirs.body import read_up_to

print(asyncio.run(read_up_to(4, httpx.Response(200, stream=httpx.ByteStream(b"Hello")))).decode())
"""

CACHED = """
import asyncio
from theirs.cached import CachedPages

class Vendor:
    async def markdown(self, url):
        print("asked")
        return "page"

async def main():
    async with CachedPages(Vendor()) as pages:
        print(await pages.markdown("a"), await pages.markdown("a"))

asyncio.run(main())
"""

CLIENT = """
import asyncio
import httpx
from theirs.{module} import {name}

async def main():
    def answer(request):
        return httpx.Response(200, json={body})

    slots = asyncio.Semaphore(68)
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        vendor = {name}(client, api_key="key", limiter=lambda: slots{more})
        print(await vendor.{call})

asyncio.run(main())
"""
VENDOR_HTTP = CLIENT.format(
    module="vendor_http",
    name="VendorAPI",
    body={"answer": 42},
    more=", name='Vendor', base_url='http://vendor'",
    call='post("/ask", {}, lambda answer: answer["answer"])',
)
SERPPOST = CLIENT.format(
    module="serppost",
    name="SerppostClient",
    body={"code": 0, "data": {"markdown": "# Hello"}},
    more="",
    call='markdown("http://93.184.216.34/")',
)
TAVILY = CLIENT.format(
    module="tavily",
    name="TavilyClient",
    body={"results": [{"raw_content": "# Hello"}]},
    more="",
    call='markdown("http://93.184.216.34/")',
)


@pytest.mark.parametrize(
    ("module", "program", "output", "installed"),
    [
        ("retry", RETRY, "healed", False),
        ("single_flight", SINGLE_FLIGHT, "called\npage page", False),
        ("vendor_errors", VENDOR_ERRORS, "OutOfCreditError", False),
        ("results", RESULTS, "a", False),
        ("urls", URLS, "http://example.com/", True),
        ("body", BODY, "Hell", True),
        ("cached", CACHED, "asked\npage page", True),
        ("vendor_http", VENDOR_HTTP, "42", True),
        ("serppost", SERPPOST, "# Hello", True),
        ("tavily", TAVILY, "# Hello", True),
    ],
)
def test_a_copied_module_works(
    tmp_path: Path, module: str, program: str, output: str, *, installed: bool
) -> None:
    """It needs the files that it names, and no installed package unless it names some."""
    assert use_copied(tmp_path, PACKAGE, module, program, installed=installed) == output


def test_no_file_too_many() -> None:
    """Whoever wants one module need not take the rest of the folder."""
    assert needs(PACKAGE, "retry") == {"retry", "protocol"}
    assert needs(PACKAGE, "urls") == {"urls", "protocol"}
    assert needs(PACKAGE, "cached") == {"cached", "single_flight", "protocol"}
    calls = {"vendor_http", "body", "retry", "vendor_errors", "protocol"}
    assert needs(PACKAGE, "vendor_http") == calls
    assert needs(PACKAGE, "serppost") == {"serppost", "urls", "results"} | calls
    assert needs(PACKAGE, "tavily") == {"tavily", "urls", "results"} | calls
