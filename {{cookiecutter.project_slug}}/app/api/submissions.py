"""What is handed in to `POST /documents`, JSON or a form with a file: received, then read.

Of what is only received a form's file is on disk, and JSON is bounded. To read it takes several
times its size, so that is for a few at once.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import Request, status
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError
from pydantic_core import from_json
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from app.api.document_body import DocumentBody, TextBody
from app.api.page_body import PageBody  # optional: ingestion_client
from app.documents.submission import Submission
from app.settings import Settings

FILE = "file"
MAX_FIELDS = 8
"""Of a form; two have a meaning beside the file."""
MAX_JSON = 4 * 1024 * 1024
"""Bytes; the worst of that takes the interpreter 0.15 s."""

BODIES: dict[str, type[DocumentBody]] = {
    "url": PageBody,  # optional: ingestion_client
    "text": TextBody,
}
"""By the field that tells them apart."""

Body = FormData | bytes
"""A form with its file, or JSON."""
Model = TypeVar("Model", bound=BaseModel)


class FormFields(BaseModel):
    """What may stand beside the file of a form."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field("", max_length=500)
    metadata: Json[dict[str, Any]] = {}


SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [body.model_json_schema() for body in BODIES.values()]}
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FILE],
                    "properties": {
                        FILE: {"type": "string", "format": "binary"},
                        "title": {"type": "string"},
                        "metadata": {"type": "string", "contentMediaType": "application/json"},
                    },
                }
            },
        },
    }
}
"""For the description of the API: the body is read here, not by the framework."""


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[Body]:
    """Receive a body, however slowly its client sends; it takes little memory until it is read.

    HTTPException or RequestValidationError if it is none that could be read.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        form = await _form(request)
        try:
            yield form
        finally:
            await form.close()
    # Not whatever parses: a page on another site may send text/plain without being asked.
    elif media_type == "application/json" or media_type.endswith("+json"):
        yield await _bounded(request)
    else:
        raise _invalid("media_type", "The body should be application/json or multipart/form-data")


async def read_submission(body: Body, settings: Settings) -> Submission:
    """Read what was received; RequestValidationError says what is wrong with it."""
    if isinstance(body, FormData):
        return await _from_fields(body)
    return await asyncio.to_thread(_from_json, body, settings)


async def _bounded(request: Request) -> bytes:
    """Receive JSON, which takes long to parse: what is larger is better sent as a file."""
    raw = bytearray()
    async for part in request.stream():
        raw += part
        if len(raw) > MAX_JSON:
            raise HTTPException(
                status.HTTP_413_CONTENT_TOO_LARGE,
                f"JSON of more than {MAX_JSON} bytes: send it as a file",
            )
    return bytes(raw)


def _from_json(raw: bytes, settings: Settings) -> Submission:
    try:
        data = from_json(raw)
    except ValueError as error:
        raise _invalid("json_invalid", f"JSON decode error: {error}") from None
    if not isinstance(data, dict):
        raise _invalid("dict_type", "Input should be an object")
    kind = next((BODIES[name] for name in BODIES if name in data), TextBody)
    return _validated(kind, data).submission(settings)


async def _form(request: Request) -> FormData:
    try:
        return await request.form(max_files=1, max_fields=MAX_FIELDS)
    except HTTPException as error:  # of the parser
        if error.status_code != status.HTTP_400_BAD_REQUEST:
            raise
        raise _invalid("form", error.detail) from None


async def _from_fields(form: FormData) -> Submission:
    file = form.get(FILE)
    if not isinstance(file, UploadFile):
        raise _invalid("missing", "Field required: a file", FILE)
    fields = _validated(FormFields, {name: form[name] for name in form if name != FILE})
    content = await file.read()
    if not content:
        raise _invalid("too_short", "The file is empty", FILE)
    return Submission.file(content, file.content_type, file.filename, fields.title, fields.metadata)


def _validated(kind: type[Model], data: dict[str, Any]) -> Model:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        told = [{**problem, "loc": ("body", *problem["loc"])} for problem in problems]
        raise RequestValidationError(told) from None


def _invalid(kind: str, message: str, *loc: str) -> RequestValidationError:
    return RequestValidationError([{"type": kind, "loc": ("body", *loc), "msg": message}])
