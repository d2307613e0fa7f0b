"""The documents that answers are made from: added, looked up and deleted.

`POST /documents` answers 202 as soon as the document is queued, and 200 where the same content is
known; `GET /documents/{id}` tells how far it has got.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from json import JSONDecodeError
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response, UploadFile, status
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError
from starlette.exceptions import HTTPException

from app.api.admission import ClientDep, ServicesDep, authenticate
from app.api.bodies import GuardedRoute, invalid, is_json, media_type_of
from app.api.errors import refusals
from app.documents.catalogue import MARKDOWN, Document
from app.documents.pipeline import Pages, PagesOffError
from app.errors import ServiceError
from app.ratelimit.headers import rate_limit_fields
from app.wiring.documents import Documents

MAX_FIELDS = 8
"""Of a form; two have a meaning beside the file."""


class Body(BaseModel):
    """What describes a document of any kind."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field("", max_length=500)
    metadata: dict[str, Any] = {}

    async def content(self, pages: Pages) -> dict[str, Any]:
        """Return the content of the document; RequestValidationError if it is not valid."""
        raise NotImplementedError


class TextBody(Body):
    """A document as it is, in Markdown or plain text; send one of more than 4 MiB as a file."""

    text: str = Field(min_length=1)

    async def content(self, _: Pages) -> dict[str, Any]:
        """See `Body.content`."""
        return {"content": self.text.encode(), "media_type": MARKDOWN}


class PageBody(Body):
    """A page on the web, by its URL."""

    url: str = Field(max_length=2000)

    async def content(self, pages: Pages) -> dict[str, Any]:
        """See `Body.content`; PagesOffError where no pages are fetched."""
        try:
            return {"url": pages.check(self.url)}
        except PagesOffError:
            raise
        except ServiceError as error:
            raise invalid("value_error", str(error), "url") from None


class FileBody(Body):
    """A form with a file."""

    file: UploadFile = Field(json_schema_extra={"format": "binary"})
    metadata: Json[dict[str, Any]] = {}

    async def content(self, _: Pages) -> dict[str, Any]:
        """See `Body.content`."""
        content = await self.file.read()
        if not content:
            raise invalid("too_short", "The file is empty", "file")
        kind = {"media_type": self.file.content_type or "", "filename": self.file.filename or ""}
        return {"content": content, **kind}


JSON = {"anyOf": [TextBody.model_json_schema(), PageBody.model_json_schema()]}
FORM = FileBody.model_json_schema()
REQUEST_BODY = {
    "required": True,
    "content": {"application/json": {"schema": JSON}, "multipart/form-data": {"schema": FORM}},
}
"""For the OpenAPI description: the body is read here, not by the framework."""


async def documents_of(services: ServicesDep) -> AsyncIterator[Documents]:
    """Admit a request until it is answered; DrainingError while the service stops."""
    with services.drain.admit():
        yield services.retrieval.documents


DocumentsDep = Annotated[Documents, Depends(documents_of)]
router = APIRouter(
    prefix="/documents",
    tags=["documents"],
    route_class=GuardedRoute,
    dependencies=[Depends(authenticate)],
    responses=refusals(401, 404, 408, 413, 422, 429, 500, 503),
)


@router.post(
    "",
    status_code=status.HTTP_202_ACCEPTED,
    responses={200: {"description": "The same document is there already"}},
    openapi_extra={"requestBody": REQUEST_BODY},
)
async def add(
    request: Request,
    response: Response,
    services: ServicesDep,
    client: ClientDep,
    documents: DocumentsDep,
) -> dict[str, str]:
    """Add a document; a few at once, since each is held in memory.

    It costs one request of the client's budget, unless it is refused.
    """
    limits = services.limits
    reservation = await limits.limiter.reserve(limits.uploads(client), tokens=0)
    try:
        # The body is received before the slot is acquired: a slow client must not block others.
        async with received(request) as body, documents.uploads.slot(client.name):
            content = await body.content(documents.pages)
            submitted = Document(title=body.title, details=body.metadata, **content)
            document, is_new = await documents.catalogue.submit(submitted)
    except BaseException:
        reservation.cancel()
        raise
    reservation.settle(tokens=0)
    if document.state == "queued":
        documents.publish(document.id)
    response.headers.update(rate_limit_fields(reservation.statuses))
    if not is_new:
        response.status_code = status.HTTP_200_OK
    return {"id": document.id, "state": document.state}


@router.get("/{document_id}")
async def find(document_id: str, documents: DocumentsDep) -> dict[str, Any]:
    """Return a document's state, and how many of its passages can be found."""
    document = await _known(document_id, documents)
    return {
        "id": document.id,
        "state": document.state,
        "title": document.title,
        "passages": await documents.store.count(document.id),
        **({"error": document.error} if document.error else {}),
    }


@router.delete("/{document_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete(document_id: str, documents: DocumentsDep) -> None:
    """Delete a document; answers that are being generated may still cite it."""
    await _known(document_id, documents)
    await documents.catalogue.delete(document_id)
    await documents.store.delete(document_id)


async def _known(document_id: str, documents: Documents) -> Document:
    document = await documents.catalogue.find(document_id)
    if document is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"there is no document {document_id!r}")
    return document


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[Body]:
    """Receive a body: the file of a form goes to disk, JSON is bounded as for `/chat`."""
    media_type = media_type_of(request)
    if media_type == "multipart/form-data":
        try:
            async with request.form(max_files=1, max_fields=MAX_FIELDS) as form:
                yield _validated(FileBody, dict(form))
        except HTTPException as error:
            if error.status_code != status.HTTP_400_BAD_REQUEST:
                raise
            raise invalid("form", error.detail) from None  # the parser's
    elif is_json(media_type):
        try:
            data = await request.json()
        except JSONDecodeError as error:
            raise invalid("json_invalid", f"JSON decode error: {error.msg}") from None
        yield _validated(PageBody if isinstance(data, dict) and "url" in data else TextBody, data)
    else:
        raise invalid("media_type", "The body should be application/json or multipart/form-data")


def _validated(model: type[Body], data: object) -> Body:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        located = [{**problem, "loc": ("body", *problem["loc"])} for problem in problems]
        raise RequestValidationError(located) from None
