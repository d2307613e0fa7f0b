"""Noticing that the client has gone before the response has started.

Starlette watches for a disconnect only while it streams a response. Waiting for a slot or
for the provider's first token comes before that, and a whole non-streaming
call does, so these watch on their own.

Needs: FastAPI, or Starlette's Request in its place.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

Result = TypeVar("Result")


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Do `work`, or cancel it when the client goes and raise ClientDisconnect.

    The request's body must have been read: the next thing to receive is then the end.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_raise_on_disconnect(request))
            result = await work
            watching.cancel()
    except ExceptionGroup as group:
        failure = group.exceptions[0]
    else:
        return result
    raise failure  # out here, where it keeps its own cause


async def _raise_on_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    raise ClientDisconnect
