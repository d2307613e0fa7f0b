"""Errors as responses and as the last event of a stream; the only module with HTTP statuses.

Every refusal has the same body, in the shape of OpenAI's errors:
`{"error": {"type", "message", "code", "param", "retry_after"?}}`. On `/v1` status, type and code
are OpenAI's as well, since its clients act on them.
"""

from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.errors import (
    InvalidRequestError,
    ModelNotAllowedError,
    ServiceError,
    UnauthorizedError,
)
from app.llm import base as llm
from app.ratelimit.base import CostAboveLimit, RateLimited
from app.ratelimit.headers import rate_limit_fields
from app.telemetry.access import REQUEST_ID

CLIENT_CLOSED_REQUEST = 499
"""nginx' code for a client that left; it is in logs and metrics only."""
DEFAULT_RETRY_AFTER = 5.0
"""Seconds, for a 429 or 503 without a better time."""
STATUSES: dict[type[Exception], int] = {
    UnauthorizedError: HTTPStatus.UNAUTHORIZED,
    CostAboveLimit: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    InvalidRequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    ModelNotAllowedError: HTTPStatus.NOT_FOUND,
    llm.ProviderRateLimitedError: HTTPStatus.TOO_MANY_REQUESTS,
    llm.ProviderOverloadedError: HTTPStatus.SERVICE_UNAVAILABLE,
    llm.ProviderTimeoutError: HTTPStatus.GATEWAY_TIMEOUT,
    llm.ProviderRejectedError: HTTPStatus.UNPROCESSABLE_ENTITY,
    llm.ProviderError: HTTPStatus.BAD_GATEWAY,
    ServiceError: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The nearest class of an error decides."""
HTTP_ERROR_TYPES = {
    400: "invalid_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "too_large",
}

KEPT_STATUSES = {400, 404, 413, 422}
"""Statuses of a provider that are about the request: `/v1` keeps them."""
OPENAI_INVALID = {"type": "invalid_request_error"}
OPENAI_WORDS: dict[str, dict[str, str]] = {
    "unauthorized": {**OPENAI_INVALID, "code": "invalid_api_key"},
    "invalid_request": OPENAI_INVALID,
    "not_found": OPENAI_INVALID,
    "method_not_allowed": OPENAI_INVALID,
    "too_large": OPENAI_INVALID,
    "cost_above_limit": OPENAI_INVALID,
    "rate_limited": {"code": "rate_limit_exceeded"},
    "provider_rate_limited": {"code": "rate_limit_exceeded"},
}
"""What OpenAI sends for a type of ours. Source: https://platform.openai.com/docs/guides/error-codes"""


class ErrorDetail(BaseModel):
    """An error, in the shape of OpenAI's; `retry_after` is in seconds."""

    type: str
    message: str
    code: str | None
    param: str | None
    retry_after: float = Field(default=0, description="only where trying again later may help")


class ErrorBody(BaseModel):
    """The body of every refusal."""

    error: ErrorDetail


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Describe the refusals of a route with these statuses in the OpenAPI schema."""
    return {code: {"model": ErrorBody, "description": HTTPStatus(code).phrase} for code in codes}


def describe(error: Exception) -> dict[str, Any]:
    """Return what a client may know: `type`, `message` and, if there are any, the other fields.

    An error that is no ServiceError is a defect of the service: its message stays in the log.
    """
    if not isinstance(error, ServiceError):
        return {"type": "internal_error", "message": "the service failed to answer"}
    described: dict[str, Any] = {"type": error.type, "message": error.public_message or str(error)}
    retry_after = error.retry_after
    if retry_after is None and _status(error) in {429, 503}:
        retry_after = DEFAULT_RETRY_AFTER
    details = {"retry_after": retry_after, "code": error.code, "param": error.param}
    return described | {name: value for name, value in details.items() if value is not None}


def log_fields(error: Exception) -> dict[str, str]:
    """Return what the log says of an error; the words of a rejection may quote the prompt."""
    kind = getattr(error, "type", type(error).__name__)
    quotes_prompt = isinstance(error, llm.ProviderRejectedError)
    return {"error": kind} if quotes_prompt else {"error": kind, "detail": str(error)}


def openai_error(described: dict[str, Any]) -> dict[str, Any]:
    """Return a described error as OpenAI sends it; `retry_after` is our own."""
    kind = described["type"]
    code = None if kind == "invalid_request" else kind
    return {"error": {"param": None, "code": code, **described, **OPENAI_WORDS.get(kind, {})}}


def add_handlers(app: FastAPI) -> None:
    """Handle every failure of `app`."""
    app.exception_handler(ServiceError)(_service_error)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(HTTPException)(_http_error)
    app.exception_handler(ClientDisconnect)(_client_left)
    app.exception_handler(Exception)(_defect)


def _status(error: Exception) -> int:
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


async def _service_error(request: Request, error: ServiceError) -> Response:
    code = _status(error)
    if code == HTTPStatus.UNPROCESSABLE_ENTITY and _is_openai(request):
        given = getattr(error, "status", None)
        code = given if given in KEPT_STATUSES else HTTPStatus.BAD_REQUEST
    structlog.contextvars.bind_contextvars(**log_fields(error))
    headers = {}
    if isinstance(error, UnauthorizedError):
        headers = {"WWW-Authenticate": "Bearer"}
    if isinstance(error, RateLimited):
        headers = rate_limit_fields(error.statuses, retry_after=error.retry_after)
    return _refusal(request, code, describe(error), headers)


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    problem = error.errors()[0]
    field = ".".join(str(part) for part in problem["loc"][1:])  # the first is "body"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "json_invalid" and field.isdecimal():  # the offset of the mistake
        field, message = "", f"{message}: {problem['ctx']['error']}"
    message = f"{field}: {message}" if field else message
    described = {"type": "invalid_request", "message": message, "param": field or None}
    return _refusal(request, 400 if _is_openai(request) else 422, described)


async def _http_error(request: Request, error: HTTPException) -> Response:
    kind = HTTP_ERROR_TYPES.get(error.status_code, "http_error")
    described = {"type": kind, "message": error.detail}
    return _refusal(request, error.status_code, described, error.headers)


async def _client_left(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _defect(request: Request, error: Exception) -> Response:
    # Starlette handles defects outside of the middleware that gives responses their id.
    request_id = {REQUEST_ID: structlog.contextvars.get_contextvars()["request_id"]}
    return _refusal(request, 500, describe(error), request_id)


def _is_openai(request: Request) -> bool:
    return request.url.path.startswith("/v1/")


def _refusal(
    request: Request,
    code: int,
    described: dict[str, Any],
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    own = {"error": {"param": None, "code": described["type"], **described}}
    body = openai_error(described) if _is_openai(request) else own
    response = JSONResponse(body, status_code=code, headers=headers)
    if "retry_after" in described:
        response.headers["Retry-After"] = str(ceil(described["retry_after"]))
    return response
