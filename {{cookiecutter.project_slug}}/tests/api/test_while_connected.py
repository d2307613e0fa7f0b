"""Work that is done only for as long as somebody listens."""

import asyncio

import pytest
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Message

from app.api.stream import while_connected


class Caller:
    """A client whose body has been read, and who may hang up."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.request = Request({"type": "http"}, receive=self.receive)

    async def receive(self) -> Message:
        """Wait for the end."""
        await self.gone.wait()
        return {"type": "http.disconnect"}


async def test_result_is_returned() -> None:
    """As long as the client listens, work is just awaited."""
    assert await while_connected(Caller().request, asyncio.sleep(0, "result")) == "result"


async def test_client_that_leaves_ends_the_work() -> None:
    """When the client goes the work is cancelled, and has ended before that is told."""
    caller, ended = Caller(), asyncio.Event()

    async def work() -> None:
        try:
            caller.gone.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    with pytest.raises(ClientDisconnect):
        await while_connected(caller.request, work())
    assert ended.is_set()


async def test_failure_is_raised_as_it_is() -> None:
    """What goes wrong is raised itself, not in a group, and with what caused it."""

    async def work() -> None:
        raise RuntimeError from KeyError("cause")

    with pytest.raises(RuntimeError) as raised:
        await while_connected(Caller().request, work())
    assert isinstance(raised.value.__cause__, KeyError)


async def test_cancellation_reaches_the_work() -> None:
    """Who is cancelled from outside passes it on."""
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(while_connected(Caller().request, work()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
