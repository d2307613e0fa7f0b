"""The documents that answers are made from: added, looked up and deleted.

`POST /documents` answers 202 as soon as the document is queued, and 200 where the same content is
known; `GET /documents/{id}` tells how far it has got.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response, status
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError
from pydantic_core import from_json
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from app.api.admission import ClientDep, ServicesDep, authenticate
from app.clients import Client
from app.documents.catalogue import Document
from app.documents.pipeline import NO_PAGES
from app.documents.submission import Submission
from app.errors import InvalidRequestError, ServiceError
from app.lifespan import Services
from app.ratelimit.header_fields import rate_limit_fields
from app.wiring.documents import DocumentService

MAX_FIELDS = 8
"""Of a form; two have a meaning beside the file."""
MAX_JSON = 4 * 1024 * 1024
"""Bytes; parsing the worst of them takes 0.15 s, in a thread."""

Body = FormData | bytes
"""A form with its file, or JSON."""
Model = TypeVar("Model", bound=BaseModel)


class Details(BaseModel):
    """What describes a document of any kind."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field("", max_length=500)
    metadata: dict[str, Any] = {}


class FormFields(Details):
    """What a form may have beside the file."""

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


FORM = FormFields.model_json_schema()
FORM["properties"] |= {"file": {"type": "string", "format": "binary"}}
FORM["required"] = ["file"]
JSON = {"anyOf": [TextBody.model_json_schema(), PageBody.model_json_schema()]}
REQUEST_BODY = {
    "required": True,
    "content": {"application/json": {"schema": JSON}, "multipart/form-data": {"schema": FORM}},
}
"""For the OpenAPI description: the body is read here, not by the framework."""


async def documents_of(services: ServicesDep) -> AsyncIterator[DocumentService]:
    """Admit a request until it is answered; DrainingError while the service stops."""
    with services.drain.admit():
        yield services.retrieval.documents


DocumentsDep = Annotated[DocumentService, Depends(documents_of)]
router = APIRouter(prefix="/documents", tags=["documents"], dependencies=[Depends(authenticate)])


@router.post(
    "", status_code=status.HTTP_202_ACCEPTED, openapi_extra={"requestBody": REQUEST_BODY}
)  # fmt: skip
async def add(
    request: Request,
    response: Response,
    services: ServicesDep,
    client: ClientDep,
    documents: DocumentsDep,
) -> dict[str, str]:
    """Add a document; a few at once, since each is held in memory."""
    slot = documents.uploads.slot(client.name)
    # The body is received before the slot is acquired: a slow client must not block others.
    async with charged(services, client) as headers, received(request) as body, slot:
        submission = await _submission(body, documents)
        document, is_new = await documents.catalogue.submit(submission)
    if document.state == "queued":
        documents.publish(document.id)
    response.headers.update(headers)
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


async def _known(document_id: str, documents: DocumentService) -> Document:
    document = await documents.catalogue.find(document_id)
    if document is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"there is no document {document_id!r}")
    return document


@asynccontextmanager
async def charged(services: Services, client: Client) -> AsyncIterator[dict[str, str]]:
    """Charge one request to the client's budget, unless the block fails; yield rate limit headers.

    RateLimited if the budget is used up.
    """
    reservation = await services.limits.limiter.reserve(services.limits.uploads(client), tokens=0)
    try:
        yield rate_limit_fields(reservation.standings)
    except BaseException:
        reservation.cancel()
        raise
    reservation.settle(tokens=0)


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[Body]:
    """Receive a body: the file of a form goes to disk, JSON is bounded by MAX_JSON."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        form = await _form(request)
        try:
            yield form
        finally:
            await form.close()
    # Other types are refused even if they parse: pages of other sites may send text/plain.
    elif media_type == "application/json" or media_type.endswith("+json"):
        yield await _bounded(request)
    else:
        raise _invalid("media_type", "The body should be application/json or multipart/form-data")


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


async def _form(request: Request) -> FormData:
    try:
        return await request.form(max_files=1, max_fields=MAX_FIELDS)
    except HTTPException as error:  # of the parser
        if error.status_code != status.HTTP_400_BAD_REQUEST:
            raise
        raise _invalid("form", error.detail) from None


async def _submission(body: Body, documents: DocumentService) -> Submission:
    """Read a body; RequestValidationError names the field that is wrong."""
    if isinstance(body, FormData):
        return await _from_form(body)
    return await asyncio.to_thread(_from_json, body, documents)


def _from_json(raw: bytes, documents: DocumentService) -> Submission:
    try:
        data = from_json(raw)
    except ValueError as error:
        raise _invalid("value_error", f"JSON decode error: {error}") from None
    if not isinstance(data, dict):
        raise _invalid("dict_type", "Input should be an object")
    if "url" not in data:
        text = _validated(TextBody, data)
        return Submission.text(text.text, title=text.title, metadata=text.metadata)
    page = _validated(PageBody, data)
    if documents.pages is None:
        raise PagesOffError(NO_PAGES)
    try:
        url = documents.pages.check(page.url)
    except ServiceError as error:
        raise _invalid("value_error", str(error), "url") from None
    return Submission.page(url, title=page.title, metadata=page.metadata)


async def _from_form(form: FormData) -> Submission:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise _invalid("missing", "Field required: a file", "file")
    fields = _validated(FormFields, {name: form[name] for name in form if name != "file"})
    content = await file.read()
    if not content:
        raise _invalid("too_short", "The file is empty", "file")
    return Submission.file(
        content,
        media_type=file.content_type,
        filename=file.filename,
        title=fields.title,
        metadata=fields.metadata,
    )


def _validated(kind: type[Model], data: dict[str, Any]) -> Model:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        located = [{**problem, "loc": ("body", *problem["loc"])} for problem in problems]
        raise RequestValidationError(located) from None


def _invalid(kind: str, message: str, *loc: str) -> RequestValidationError:
    return RequestValidationError([{"type": kind, "loc": ("body", *loc), "msg": message}])
