"""Reading what is handed in to `POST /documents`: JSON, or a form with a file."""

import asyncio
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


async def read_submission(request: Request, settings: Settings) -> Submission:
    """Read a request's body; RequestValidationError says what is wrong with it."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return await _from_form(request)
    # Not whatever parses: a page on another site may send text/plain without being asked.
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise _invalid("media_type", "The body should be application/json or multipart/form-data")
    return await asyncio.to_thread(_from_json, await _bounded(request), settings)


async def _bounded(request: Request) -> bytes:
    """Read JSON, which takes long to parse: what is larger is better sent as a file."""
    raw = await request.body()
    if len(raw) > MAX_JSON:
        raise HTTPException(
            status.HTTP_413_CONTENT_TOO_LARGE,
            f"JSON of {len(raw)} bytes, {MAX_JSON} are the most: send it as a file",
        )
    return raw


def _from_json(raw: bytes, settings: Settings) -> Submission:
    try:
        data = from_json(raw)
    except ValueError as error:
        raise _invalid("json_invalid", f"JSON decode error: {error}") from None
    if not isinstance(data, dict):
        raise _invalid("dict_type", "Input should be an object")
    kind = next((BODIES[name] for name in BODIES if name in data), TextBody)
    return _validated(kind, data).submission(settings)


async def _from_form(request: Request) -> Submission:
    try:
        async with request.form(max_files=1, max_fields=MAX_FIELDS) as form:
            return await _from_fields(form)
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
