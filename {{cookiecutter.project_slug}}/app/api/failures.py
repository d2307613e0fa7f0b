"""From an error to a response: the one place that knows HTTP statuses.

Every refusal has the same body, in the shape of OpenAI's errors:
`{"error": {"type", "message", "code", "param", "retry_after"?}}`. On `/v1` status, type and code
are OpenAI's as well, since its clients act on them.
"""

from collections.abc import Mapping
from math import ceil
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response, status
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.drain import DrainingError
from app.errors import InvalidRequestError, ServiceError, UnauthorizedError
from app.llm import base as llm
from app.ratelimit.header_fields import rate_limit_fields
from app.ratelimit.protocol import CostAboveLimit, RateLimited, RateLimitError
from app.streaming.describe import DOMAIN_ERRORS, describe, log_fields
from app.streaming.openai_events import error_body
from app.telemetry.access import REQUEST_ID

CLIENT_CLOSED_REQUEST = 499
"""nginx' code for a client that left; it stands in logs only."""

STATUSES: dict[type[Exception], int] = {
    UnauthorizedError: status.HTTP_401_UNAUTHORIZED,
    CostAboveLimit: status.HTTP_413_CONTENT_TOO_LARGE,
    RateLimitError: status.HTTP_429_TOO_MANY_REQUESTS,
    DrainingError: status.HTTP_503_SERVICE_UNAVAILABLE,
    InvalidRequestError: status.HTTP_422_UNPROCESSABLE_CONTENT,
    ServiceError: status.HTTP_503_SERVICE_UNAVAILABLE,
    llm.ProviderRateLimitedError: status.HTTP_429_TOO_MANY_REQUESTS,
    llm.ProviderOverloadedError: status.HTTP_503_SERVICE_UNAVAILABLE,
    llm.ProviderTimeoutError: status.HTTP_504_GATEWAY_TIMEOUT,
    llm.ProviderRejectedError: status.HTTP_422_UNPROCESSABLE_CONTENT,
    llm.ProviderError: status.HTTP_502_BAD_GATEWAY,
}

KEPT_STATUSES = {400, 404, 413, 422}
"""Statuses of a provider that say something about the request: `/v1` keeps them."""

HTTP_ERROR_TYPES = {
    status.HTTP_400_BAD_REQUEST: "invalid_request",
    status.HTTP_404_NOT_FOUND: "not_found",
    status.HTTP_405_METHOD_NOT_ALLOWED: "method_not_allowed",
    status.HTTP_408_REQUEST_TIMEOUT: "request_timeout",
    status.HTTP_413_CONTENT_TOO_LARGE: "too_large",
}


def add_handlers(app: FastAPI) -> None:
    """Answer every failure of `app` in the one shape."""
    for kind in DOMAIN_ERRORS:
        app.exception_handler(kind)(_domain_error)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(HTTPException)(_http_error)
    app.exception_handler(ClientDisconnect)(_client_left)
    app.exception_handler(Exception)(_defect)


def status_of(error: Exception) -> int:
    """Find the status of an error, by the nearest of its classes that has one."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def _is_openai(request: Request) -> bool:
    return request.url.path.startswith("/v1/")


async def _domain_error(request: Request, error: Exception) -> Response:
    code = status_of(error)
    if code == status.HTTP_422_UNPROCESSABLE_CONTENT and _is_openai(request):
        given = getattr(error, "status", None)
        code = given if given in KEPT_STATUSES else status.HTTP_400_BAD_REQUEST
    structlog.contextvars.bind_contextvars(**log_fields(error))
    return _refusal(request, code, describe(error), _headers_of(error))


def _headers_of(error: Exception) -> dict[str, str]:
    if isinstance(error, UnauthorizedError):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, RateLimited):
        return rate_limit_fields(error.standings, retry_after=error.retry_after)
    return {}


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    problem = error.errors()[0]
    field = ".".join(str(part) for part in problem["loc"][1:])  # the first is "body"
    said = problem["msg"].removeprefix("Value error, ")
    if (
        problem["type"] == "json_invalid" and field.isdecimal()
    ):  # the offset at which the JSON is invalid
        field, said = "", f"{said}: {problem['ctx']['error']}"
    message = f"{field}: {said}" if field else said
    told = {"type": "invalid_request", "message": message, "param": field or None}
    invalid = status.HTTP_422_UNPROCESSABLE_CONTENT
    return _refusal(request, status.HTTP_400_BAD_REQUEST if _is_openai(request) else invalid, told)


async def _http_error(request: Request, error: HTTPException) -> Response:
    told = {"type": HTTP_ERROR_TYPES.get(error.status_code, "http_error"), "message": error.detail}
    return _refusal(request, error.status_code, told, error.headers)


async def _client_left(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _defect(request: Request, error: Exception) -> Response:
    # Starlette answers defects from outside of the middleware that gives responses their id.
    request_id = {REQUEST_ID: structlog.contextvars.get_contextvars()["request_id"]}
    code = status.HTTP_500_INTERNAL_SERVER_ERROR
    return _refusal(request, code, describe(error), request_id)


def _refusal(
    request: Request, code: int, told: dict[str, Any], headers: Mapping[str, str] | None = None
) -> JSONResponse:
    own = {"error": {"param": None, "code": told["type"], **told}}
    body = error_body(told) if _is_openai(request) else own
    response = JSONResponse(body, status_code=code, headers=headers)
    if "retry_after" in told:
        response.headers["Retry-After"] = str(ceil(told["retry_after"]))
    return response
