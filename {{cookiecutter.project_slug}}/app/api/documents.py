"""The documents that answers are made from: added, looked up and deleted.

`POST /documents` answers 202 as soon as the document is queued, and 200 where the same content is
known; `GET /documents/{id}` tells how far it has got.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response, UploadFile, status
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, Json, TypeAdapter, ValidationError
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from app.api.admission import ClientDep, ServicesDep, authenticate
from app.api.bodies import GuardedRoute, invalid, is_json, media_type_of
from app.api.errors import refusals
from app.documents.catalogue import MARKDOWN, Document, Submission
from app.documents.pipeline import NO_PAGES
from app.errors import InvalidRequestError, ServiceError
from app.ratelimit.headers import rate_limit_fields
from app.wiring.documents import Documents

MAX_FIELDS = 8
"""Of a form; two have a meaning beside the file."""
MAX_JSON = 4 * 1024 * 1024
"""Bytes; parsing the worst of them takes 0.15 s, in a thread."""

Body = FormData | bytes
"""A form with its file, or JSON."""
JSON_OBJECT = TypeAdapter(dict[str, Any])
T = TypeVar("T")


class Details(BaseModel):
    """What describes a document of any kind."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field("", max_length=500)
    metadata: dict[str, Any] = {}


class FileBody(Details):
    """A form with a file."""

    file: UploadFile = Field(json_schema_extra={"format": "binary"})
    metadata: Json[dict[str, Any]] = {}


class TextBody(Details):
    """A document as it is, in Markdown or plain text."""

    text: Annotated[str, Field(min_length=1)]


class PageBody(Details):
    """A page on the web, by its URL."""

    url: Annotated[str, Field(max_length=2000)]


class PagesOffError(InvalidRequestError):
    """This service does not fetch pages."""

    type = "pages_off"


FORM = FileBody.model_json_schema()
JSON = {"anyOf": [TextBody.model_json_schema(), PageBody.model_json_schema()]}
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
            submission = await _submission(body, documents)
            document, is_new = await documents.catalogue.submit(submission)
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
    """Receive a body: the file of a form goes to disk, JSON is bounded by MAX_JSON."""
    media_type = media_type_of(request)
    if media_type == "multipart/form-data":
        try:
            async with request.form(max_files=1, max_fields=MAX_FIELDS) as form:
                yield form
        except HTTPException as error:
            if error.status_code != status.HTTP_400_BAD_REQUEST:
                raise
            raise invalid("form", error.detail) from None  # the parser's
    elif is_json(media_type):
        yield await _bounded(request)
    else:
        raise invalid("media_type", "The body should be application/json or multipart/form-data")


async def _bounded(request: Request) -> bytes:
    raw = bytearray()
    async for part in request.stream():
        raw += part
        if len(raw) > MAX_JSON:
            raise HTTPException(
                status.HTTP_413_CONTENT_TOO_LARGE,
                f"JSON of more than {MAX_JSON} bytes: send it as a file",
            )
    return bytes(raw)


async def _submission(body: Body, documents: Documents) -> Submission:
    """Read a body; RequestValidationError names the field that is wrong."""
    if isinstance(body, FormData):
        return await _from_form(body)
    return await asyncio.to_thread(_from_json, body, documents)


def _from_json(raw: bytes, documents: Documents) -> Submission:
    data = _validated(JSON_OBJECT.validate_json, raw)
    if "url" not in data:
        text = _validated(TextBody.model_validate, data)
        details = text.model_dump(exclude={"text"})
        return Submission(content=text.text.encode(), media_type=MARKDOWN, **details)
    page = _validated(PageBody.model_validate, data)
    if documents.pages is None:
        raise PagesOffError(NO_PAGES)
    try:
        url = documents.pages.check(page.url)
    except ServiceError as error:
        raise invalid("value_error", str(error), "url") from None
    return Submission(**page.model_dump(exclude={"url"}), url=url)


async def _from_form(form: FormData) -> Submission:
    body = _validated(FileBody.model_validate, dict(form))
    content = await body.file.read()
    if not content:
        raise invalid("too_short", "The file is empty", "file")
    return Submission(
        content=content,
        media_type=body.file.content_type,
        filename=body.file.filename,
        **body.model_dump(exclude={"file"}),
    )


def _validated(validate: Callable[[Any], T], data: object) -> T:
    try:
        return validate(data)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        located = [{**problem, "loc": ("body", *problem["loc"])} for problem in problems]
        raise RequestValidationError(located) from None
