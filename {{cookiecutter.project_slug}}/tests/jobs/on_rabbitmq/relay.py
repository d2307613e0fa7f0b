"""A network between client and broker that may lose connections without telling anybody."""

import asyncio
from types import TracebackType
from typing import Self

from yarl import URL

from tests.rabbitmq import LOCALHOST


class Relay:
    """Passes bytes on between whoever connects and a broker, on `url`."""

    def __init__(self, broker: str) -> None:
        self._broker = URL(broker)
        self._tasks = asyncio.TaskGroup()
        self._generation = 0

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._server = await asyncio.start_server(self._connected, LOCALHOST, 0)
        self.url = str(self._broker.with_port(self._server.sockets[0].getsockname()[1]))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        await self._tasks.__aexit__(kind, error, traceback)

    def forget(self) -> None:
        """Pass on nothing more of the connections there are; they stay open."""
        self._generation += 1

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(self._broker.host, self._broker.port)
        self._tasks.create_task(self._pass_on(reader, there[1], self._generation))
        self._tasks.create_task(self._pass_on(there[0], writer, self._generation))

    async def _pass_on(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, generation: int
    ) -> None:
        while data := await source.read(65_536):
            if generation == self._generation:
                target.write(data)
        target.close()
