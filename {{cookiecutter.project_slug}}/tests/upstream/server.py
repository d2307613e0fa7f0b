"""The fake upstream itself: listens, picks a script for each request, counts, answers.

Tests are ordered by its waits, never by sleeping: `await upstream.wait_aborted(1)`.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from . import anthropic, openai
from .connection import Connection, Play
from .script import Script, Step
from .wire import Answer, Request, compiled

KEPT_REQUESTS = 1000
PATIENCE = 20.0
"""Seconds until a wait gives up and the test fails; nothing but a defect takes so long."""

ScriptSource = Script | Callable[[Request], Script]


@dataclass(slots=True)
class Counts:
    """What happened so far.

    `live` requests are received and not ended, `peak` is the most there ever were; `held` of them
    are on HOLD. Each ends in one way: `completed` (sent whole, also an error status), `aborted`
    (the client closed the connection) or `cut` (the script did).
    """

    received: int = 0
    live: int = 0
    peak: int = 0
    held: int = 0
    completed: int = 0
    aborted: int = 0
    cut: int = 0
    connections: int = 0
    open_connections: int = 0


class FakeUpstream:
    """A fake provider on 127.0.0.1; open it with `async with`.

    `script` answers every request, or chooses the answer when called with one. The scripts
    in `queue` are used up first, one a request. Both may be changed at any time.
    `requests` keeps the last requests.
    """

    def __init__(self, script: ScriptSource | None = None, *, port: int = 0) -> None:
        self.script: ScriptSource = script or Script()
        self.queue: deque[Script] = deque()
        self.requests: deque[Request] = deque(maxlen=KEPT_REQUESTS)
        self.counts = Counts()
        self._port = port
        self._changed = asyncio.Event()
        self._gate = asyncio.Event()
        self._connections: set[Connection] = set()
        self._defects: list[BaseException] = []

    async def __aenter__(self) -> Self:
        """Start listening."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self), "127.0.0.1", self._port, backlog=4096
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

    def release(self) -> None:
        """Let all answers that are on HOLD go on; later ones hold again."""
        gate, self._gate = self._gate, asyncio.Event()
        gate.set()

    async def wait_until(self, holds: Callable[[Counts], bool]) -> None:
        """Wait until the counts satisfy `holds`; AssertionError after PATIENCE seconds."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not holds(self.counts):
                    await self._changed.wait()
        except TimeoutError as error:
            raise AssertionError(f"not reached in {PATIENCE:g} s: {self.counts}") from error

    async def wait_live(self, requests: int) -> None:
        """Wait until exactly so many requests are live."""
        await self.wait_until(lambda counts: counts.live == requests)

    async def wait_held(self, requests: int) -> None:
        """Wait until exactly so many answers are on HOLD."""
        await self.wait_until(lambda counts: counts.held == requests)

    async def wait_aborted(self, requests: int) -> None:
        """Wait until the client has gone away from so many live requests."""
        await self.wait_until(lambda counts: counts.aborted >= requests)

    def count(self, **changes: int) -> None:
        """Change counts, and wake those who wait for them."""
        for name, change in changes.items():
            setattr(self.counts, name, getattr(self.counts, name) + change)
        self.counts.peak = max(self.counts.peak, self.counts.live)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def opened(self, connection: Connection) -> None:
        """Note a connection."""
        self._connections.add(connection)
        self.count(connections=1, open_connections=1)

    def closed(self, connection: Connection) -> None:
        """Note the end of a connection, and what failed while it was served."""
        self._connections.discard(connection)
        self.count(open_connections=-1)
        if connection.task.done() and (defect := connection.task.exception()):
            self._defects.append(defect)

    async def hold(self) -> None:
        """Wait for `release`."""
        self.count(held=1)
        try:
            await self._gate.wait()
        finally:
            self.count(held=-1)

    async def answer(self, request: Request, play: Play) -> None:
        """Answer one request; cancelled when the client has gone."""
        self.requests.append(request)
        how = "aborted"
        self.count(received=1, live=1)
        try:
            how = "completed" if await play(self._steps(request)) else "cut"
        finally:
            self.count(live=-1, **{how: 1})

    def _steps(self, request: Request) -> tuple[Step, ...]:
        script = self.queue.popleft() if self.queue else self.script
        if not isinstance(script, Script):
            script = script(request)
        return compiled(_answer(request, script), script)


def _answer(request: Request, script: Script) -> Answer:
    wire = anthropic if "anthropic-version" in request.headers else openai
    route = wire.ROUTES.get(f"{request.method} {request.path}")
    status = script.status if route else 404
    if script.body is not None:
        return Answer(((script.duration, script.body),), status)
    if route is None or status != 200:
        return Answer.plain(wire.error_body(status, request), status=status)
    answer: Answer = route(request, script)
    return answer
