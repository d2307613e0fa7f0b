"""The documents that answers are made from: handed in, looked up, taken out.

`POST /documents` answers 202 as soon as the document is stored and is to be worked on, and 200
where that content is there already; `GET /documents/{id}` says how far it has got.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response, status

from app.api.auth import ClientDep, authenticate
from app.api.services import ServicesDep
from app.api.submissions import SCHEMA, read_submission, received
from app.clients import Client
from app.documents.library import Library
from app.lifespan import Services
from app.ratelimit.header_fields import rate_limit_fields


async def library(services: ServicesDep) -> AsyncIterator[Library]:
    """Let a request in until it is answered; DrainingError while the service stops."""
    with services.drain.admit():
        yield services.knowledge.library


LibraryDep = Annotated[Library, Depends(library)]


@asynccontextmanager
async def charged(services: Services, client: Client) -> AsyncIterator[dict[str, str]]:
    """Charge one request to the client's own budget, unless the block fails.

    RateLimited if it has none left. Gives the header fields that tell how it stands.
    """
    reservation = await services.limits.limiter.reserve(services.limits.uploads(client), tokens=0)
    try:
        yield rate_limit_fields(reservation.standings)
    except BaseException:
        reservation.cancel()
        raise
    reservation.settle(tokens=0)


router = APIRouter(prefix="/documents", tags=["documents"], dependencies=[Depends(authenticate)])


@router.post("", status_code=status.HTTP_202_ACCEPTED, openapi_extra=SCHEMA)
async def add(
    request: Request,
    response: Response,
    services: ServicesDep,
    client: ClientDep,
    library: LibraryDep,
) -> dict[str, str]:
    """Take a document in, to be made findable; a few at once, as each is held in memory."""
    turn = services.knowledge.uploads.slot(client.name, weight=client.terms.weight)
    # Received before its turn: a client that sends slowly keeps nobody waiting.
    async with charged(services, client) as standing, received(request) as body, turn:
        submission = await read_submission(body, services.settings)
        document, is_new = await library.add(submission)
    response.headers.update(standing)
    if not is_new:
        response.status_code = status.HTTP_200_OK
    return {"id": document.id, "state": document.state}


@router.get("/{document_id}")
async def find(document_id: str, library: LibraryDep) -> dict[str, Any]:
    """Say how far a document has got, and how many passages of it can be found."""
    document = await library.find(document_id)
    return {
        "id": document.id,
        "state": document.state,
        "title": document.title,
        "passages": document.passages,
        **({"error": document.error} if document.error else {}),
    }


@router.delete("/{document_id}", status_code=status.HTTP_204_NO_CONTENT)
async def remove(document_id: str, library: LibraryDep) -> None:
    """Take a document out; answers that are under way may still cite it."""
    await library.remove(document_id)
