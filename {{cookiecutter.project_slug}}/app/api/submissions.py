"""Reading what is handed in to `POST /documents`: JSON, or a form with a file."""

from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError
from pydantic_core import from_json
from starlette.datastructures import FormData, UploadFile

from app.api.document_body import DocumentBody, TextBody
from app.api.page_body import PageBody  # optional: ingestion_client
from app.documents.submission import Submission
from app.settings import Settings

FILE = "file"
MAX_FIELDS = 8
"""Of a form; two have a meaning beside the file."""

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


Body = TextBody


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
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with request.form(max_files=1, max_fields=MAX_FIELDS) as form:
            return await _from_form(form)
    return _from_json(await request.body()).submission(settings)


def _from_json(raw: bytes) -> DocumentBody:
    try:
        data = from_json(raw)
    except ValueError as error:
        raise _invalid("json_invalid", f"JSON decode error: {error}") from None
    if not isinstance(data, dict):
        raise _invalid("dict_type", "Input should be an object")
    kind = next((BODIES[name] for name in BODIES if name in data), TextBody)
    return _validated(kind, data)


async def _from_form(form: FormData) -> Submission:
    file = form.get(FILE)
    if not isinstance(file, UploadFile):
        raise _invalid("missing", "Field required: a file", FILE)
    fields = _validated(FormFields, {name: form[name] for name in form if name != FILE})
    content = await file.read()
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
