"""A look-up that hangs costs nobody but those who look up names."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import app
from app.ingestion.protocol import ForbiddenURLError, VendorUnavailableError
from app.ingestion.urls import Resolver, check_public_url

LONG = 60.0
"""Seconds that are enough on any machine."""
AT_ONCE = 0.01
"""Seconds for what never comes."""
URL = "http://www.example.com/"

HANGING = """
import asyncio, threading
from app.ingestion.protocol import VendorUnavailableError
from app.ingestion.urls import Resolver, check_public_url

free = threading.Event()

def look_up(host):
    free.wait()
    return []

async def main():
    try:
        await check_public_url("http://example.com/", resolve=Resolver(look_up), within=0.01)
    except VendorUnavailableError:
        print("given up")

asyncio.run(main())
"""
ENDING = """
free.set()
for thread in threading.enumerate()[1:]:
    thread.join()
"""


class NameServer:
    """Says nothing about `hanging` names until it is let go; knows those that are asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.free = threading.Event()

    def look_up(self, host: str) -> list[str]:
        """Block for the name's addresses."""
        self.asked.append(host)
        if host.startswith("hanging"):
            self.free.wait(LONG)
        if host.startswith("nowhere"):
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return ["93.184.216.34"]


@pytest.fixture
def server() -> Iterator[NameServer]:
    """Provide a name server, which lets all go at the end."""
    server = NameServer()
    yield server
    server.free.set()


async def give_up(resolver: Resolver, url: str) -> None:
    """Look up what has no answer in time."""
    with pytest.raises(VendorUnavailableError, match="cannot be looked up now"):
        await check_public_url(url, resolve=resolver, within=AT_ONCE)


async def test_no_thread_of_others_is_taken(server: NameServer) -> None:
    """What runs in the event loop's own threads goes on, however many look-ups hang."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    resolver = Resolver(server.look_up, threads=2)
    for number in range(3):
        await give_up(resolver, f"http://hanging{number}.example.com/")
    async with asyncio.timeout(LONG / 2):
        assert await asyncio.to_thread(threading.active_count) >= 2


async def test_one_that_is_given_up_keeps_its_place(server: NameServer) -> None:
    """While all threads hang a name is refused in time, unasked; then look-ups go on.

    The answer that came too late is dropped without a word.
    """
    said = list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    resolver = Resolver(server.look_up, threads=1)
    await give_up(resolver, "http://hanging.example.com/")
    await give_up(resolver, "http://refused.example.com/")
    server.free.set()
    assert await check_public_url(URL, resolve=resolver, within=LONG) == URL
    assert server.asked == ["hanging.example.com", "www.example.com"]
    assert said == []


async def test_who_waits_has_the_next_free_thread(server: NameServer) -> None:
    """A look-up begins when another ends, if that is within its time."""
    resolver = Resolver(server.look_up, threads=1)
    hanging, waiting = (
        asyncio.create_task(check_public_url(url, resolve=resolver, within=LONG))
        for url in ("http://hanging.example.com/", URL)
    )
    await asyncio.sleep(0)  # both have begun
    server.free.set()
    assert (await hanging, await waiting) == ("http://hanging.example.com/", URL)


async def test_an_error_is_an_answer(server: NameServer) -> None:
    """It is raised where the name is asked for, and its thread is free again."""
    resolver = Resolver(server.look_up, threads=1)
    for _ in range(2):
        with pytest.raises(ForbiddenURLError, match="there is no host"):
            await check_public_url("http://nowhere.example.com/", resolve=resolver, within=LONG)


@pytest.mark.parametrize("program", [HANGING, HANGING + ENDING], ids=["hangs", "ends too late"])
def test_a_process_ends_without_it(program: str) -> None:
    """A look-up that hangs does not hold up the exit; its answer is dropped without a word."""
    ran = subprocess.run(  # noqa: S603 -- our own program
        [sys.executable, "-W", "error", "-c", program],
        cwd=Path(app.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "given up\n", "")
