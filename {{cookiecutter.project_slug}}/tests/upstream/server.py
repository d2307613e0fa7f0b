"""The fake upstream itself: listens, picks a script for each request, counts, answers."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict
from types import TracebackType
from typing import Self

from . import anthropic, openai
from .connection import Connection, Play
from .script import Script, Step
from .tally import Counts, Tally
from .wire import Answer, Request, WireFormat, compiled

FORMATS: tuple[WireFormat, ...] = (anthropic.FORMAT, openai.FORMAT)
"""The first that recognises a request answers it; OpenAI's recognises everything."""

TALLY_PATH = "/tally"
"""GET it for the counts as JSON; it is not counted itself."""

KEPT_REQUESTS = 1000
PATIENCE = 20.0
"""Seconds until a wait gives up and the test fails; nothing but a defect takes so long."""

ScriptSource = Script | Callable[[Request], Script]


class FakeUpstream:
    """A fake provider on 127.0.0.1; open it with `async with`.

    `script` answers every request, or chooses the answer when called with one. The scripts
    in `queue` are used up first, one a request. Both may be changed at any time.
    `requests` keeps the last requests.
    """

    def __init__(
        self, script: ScriptSource | None = None, *, queue: Iterable[Script] = (), port: int = 0
    ) -> None:
        self.script: ScriptSource = script or Script()
        self.queue = deque(queue)
        self.requests: deque[Request] = deque(maxlen=KEPT_REQUESTS)
        self._port = port
        self._tally = Tally()
        self._gate = asyncio.Event()
        self._connections: set[Connection] = set()
        self._defects: list[BaseException] = []

    async def __aenter__(self) -> Self:
        """Start listening."""
        self._server = await asyncio.get_running_loop().create_server(
            self._connection, "127.0.0.1", self._port, backlog=4096
        )
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drop every connection and stop; a script that failed to play is raised here."""
        self._server.close()
        serving = [connection.task for connection in self._connections]
        for connection in self._connections:
            connection.abort()
        await asyncio.gather(*serving, return_exceptions=True)
        await self.wait_until(lambda counts: counts.open_connections == 0)
        await self._server.wait_closed()
        if self._defects:
            raise self._defects[0]

    @property
    def origin(self) -> str:
        """`http://127.0.0.1:port`, the base URL of Anthropic's API."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def base_url(self) -> str:
        """The origin with `/v1`, the base URL of OpenAI's API."""
        return f"{self.origin}/v1"

    @property
    def counts(self) -> Counts:
        """What happened so far."""
        return self._tally.counts

    def release(self) -> None:
        """Let all answers that are on HOLD go on; later ones hold again."""
        gate, self._gate = self._gate, asyncio.Event()
        gate.set()

    async def wait_until(
        self, holds: Callable[[Counts], bool], *, patience: float = PATIENCE
    ) -> None:
        """Wait until the counts satisfy `holds`; AssertionError after `patience` seconds."""
        await self._tally.wait_until(holds, patience)

    async def wait_received(self, requests: int) -> None:
        """Wait until so many requests have come in altogether."""
        await self.wait_until(lambda counts: counts.received >= requests)

    async def wait_live(self, requests: int) -> None:
        """Wait until exactly so many requests are live."""
        await self.wait_until(lambda counts: counts.live == requests)

    async def wait_held(self, requests: int) -> None:
        """Wait until exactly so many answers are on HOLD."""
        await self.wait_until(lambda counts: counts.held == requests)

    async def wait_completed(self, requests: int) -> None:
        """Wait until so many answers have been sent whole."""
        await self.wait_until(lambda counts: counts.completed >= requests)

    async def wait_aborted(self, requests: int) -> None:
        """Wait until the client has gone away from so many live requests."""
        await self.wait_until(lambda counts: counts.aborted >= requests)

    def _connection(self) -> Connection:
        return Connection(
            answer=self._answer,
            held=self._held,
            opened=self._opened,
            closed=self._closed,
        )

    async def _held(self) -> None:
        with self._tally.holding():
            await self._gate.wait()

    def _opened(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._tally.connected()

    def _closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._tally.disconnected()
        if connection.task.done() and (defect := connection.task.exception()):
            self._defects.append(defect)

    async def _answer(self, request: Request, play: Play) -> None:
        if request.path == TALLY_PATH:
            await play(compiled(Answer.plain(asdict(self.counts)), Script()))
            return
        self.requests.append(request)
        how = "aborted"
        self._tally.received()
        try:
            how = "completed" if await play(self._steps(request)) else "cut"
        finally:
            self._tally.ended(how)

    def _steps(self, request: Request) -> tuple[Step, ...]:
        script = self.queue.popleft() if self.queue else self.script
        if not isinstance(script, Script):
            script = script(request)
        wire_format = next(f for f in FORMATS if f.recognises is None or f.recognises(request))
        return compiled(wire_format.answer(request, script), script)
