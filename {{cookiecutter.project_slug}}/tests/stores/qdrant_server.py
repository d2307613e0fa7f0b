"""A Qdrant server for tests: the client's local engine behind HTTP, which fails on demand.

It knows the requests that the store makes, and no others.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from pydantic_core import to_jsonable_python
from qdrant_client import AsyncQdrantClient, models
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tests.server import StrictServer

HOST = "127.0.0.1"
Body = dict[str, Any]
Trouble = Callable[[], Awaitable[Response]]


class QdrantServer:
    """Answers from `engine`, or as `trouble` says; `keys` are the API keys that came."""

    def __init__(self) -> None:
        self.engine = AsyncQdrantClient(location=":memory:")
        self.trouble: Trouble | None = None
        self.keys: list[str | None] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve, and provide the address."""
        config = uvicorn.Config(self, lifespan="off", log_config=None, access_log=False)
        async with StrictServer(config).running(HOST) as port:
            yield f"http://{HOST}:{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        self.keys.append(request.headers.get("api-key"))
        answer = await (self.trouble() if self.trouble else self._answer(request))
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        _, _, collection, *rest = request.url.path.split("/")
        body = json.loads(await request.body() or "{}")
        try:
            result = await REQUESTS[request.method, "/".join(rest)](self.engine, collection, body)
        except ValueError as error:
            status = 404 if "not found" in str(error) else 400
            return JSONResponse({"status": {"error": str(error)}}, status)
        answer = {"result": to_jsonable_python(result), "status": "ok", "time": 0.0}
        return JSONResponse(answer)


async def exists(engine: AsyncQdrantClient, collection: str, _body: Body) -> Any:
    """Say whether a collection is there."""
    return {"exists": await engine.collection_exists(collection)}


async def create(engine: AsyncQdrantClient, collection: str, body: Body) -> Any:
    """Make a collection."""
    size = body["vectors"]
    return await engine.create_collection(
        collection, vectors_config=models.VectorParams(**size) if size else {}
    )


async def index(_engine: AsyncQdrantClient, _collection: str, _body: Body) -> Any:
    """Do without an index."""
    return models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)


async def upsert(engine: AsyncQdrantClient, collection: str, body: Body) -> Any:
    """Write points."""
    points = [models.PointStruct(**point) for point in body["points"]]
    mode = models.UpdateMode(body.get("update_mode", "upsert"))
    return await engine.upsert(collection, points, update_mode=mode)


async def overwrite(engine: AsyncQdrantClient, collection: str, body: Body) -> Any:
    """Replace what is kept with points."""
    where = models.Filter(**body["filter"])
    return await engine.overwrite_payload(collection, body["payload"], points=where)


async def delete(engine: AsyncQdrantClient, collection: str, body: Body) -> Any:
    """Remove points."""
    return await engine.delete(collection, models.Filter(**body["filter"]))


async def retrieve(engine: AsyncQdrantClient, collection: str, body: Body) -> Any:
    """Return points."""
    return await engine.retrieve(collection, body["ids"], with_payload=body["with_payload"])


async def scroll(engine: AsyncQdrantClient, collection: str, body: Body) -> Any:
    """Return a page of points."""
    page, offset = await engine.scroll(
        collection,
        models.Filter(**body["filter"]),
        limit=body["limit"],
        offset=body.get("offset"),
        with_payload=body["with_payload"],
    )
    return {"points": page, "next_page_offset": offset}


async def query(engine: AsyncQdrantClient, collection: str, body: Body) -> Any:
    """Search."""
    where = body.get("filter")
    return await engine.query_points(
        collection,
        body["query"]["nearest"],
        query_filter=models.Filter(**where) if where else None,
        limit=body["limit"],
    )


async def facet(engine: AsyncQdrantClient, collection: str, body: Body) -> Any:
    """Count values."""
    where = models.Filter(**body["filter"])
    return await engine.facet(collection, body["key"], facet_filter=where, limit=body["limit"])


REQUESTS = {
    ("GET", "exists"): exists,
    ("PUT", ""): create,
    ("PUT", "index"): index,
    ("PUT", "points"): upsert,
    ("PUT", "points/payload"): overwrite,
    ("POST", "points/delete"): delete,
    ("POST", "points"): retrieve,
    ("POST", "points/scroll"): scroll,
    ("POST", "points/query"): query,
    ("POST", "facet"): facet,
}


def answering(status: int, body: str = "", headers: dict[str, str] | None = None) -> Trouble:
    """Answer each request with this."""

    async def trouble() -> Response:
        return Response(body, status, headers)

    return trouble


def silent_until(gate: asyncio.Event) -> Trouble:
    """Answer nothing before the gate opens."""

    async def trouble() -> Response:
        await gate.wait()
        return Response(status_code=503)

    return trouble
