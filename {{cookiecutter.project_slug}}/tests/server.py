"""uvicorn in the test's own event loop, started and stopped without a pause."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

STOP_TIMEOUT = 20.0
"""Seconds; a request that outlives its test by so much is a defect."""


class StrictServer(uvicorn.Server):
    """A uvicorn that says when it has started, and fails if a request outlives its test."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self.stopping = asyncio.Event()

    @asynccontextmanager
    async def running(self, host: str) -> AsyncIterator[int]:
        """Serve on a free port; however the block ends, so does the server."""
        listener = _listening_on(host)
        # No TaskGroup: it would wrap a failed assertion into a group.
        serving = asyncio.create_task(self.serve([listener]))
        await self.ready.wait()
        try:
            yield listener.getsockname()[1]
        finally:
            self.stopping.set()
            await serving

    async def main_loop(self) -> None:
        """Serve until told to stop."""
        await self.on_tick(0)
        self.ready.set()
        await self.stopping.wait()

    async def shutdown(self, sockets: object = None) -> None:  # noqa: ARG002
        """Stop as uvicorn does, but wait for what is open instead of cancelling it."""
        for server in self.servers:
            server.close()
        for connection in tuple(self.server_state.connections):
            connection.shutdown()
        async with asyncio.timeout(STOP_TIMEOUT):
            while self.server_state.connections | self.server_state.tasks:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await self.lifespan.shutdown()


def _listening_on(host: str) -> socket.socket:
    """Listen for TCP by its number: without it asyncio leaves Nagle's delays of 40 ms on."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind((host, 0))
    listener.listen(1024)
    return listener
