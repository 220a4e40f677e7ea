"""Errors: turns every exception that a route raises, ours or the framework's, into a problem response."""

import logging
from collections.abc import Mapping
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Scope

from app.core.logging import REQUEST_ID
from app.core.problems import MEDIA_TYPE, Problem, validation_problem

log = logging.getLogger(__name__)

INSTANCE_CHARS = 256

#: Codes for the framework's own exceptions, by status. Their texts are not shown.
FRAMEWORK_CODES: Mapping[int, str] = {
    400: "malformed_multipart",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
}


def problem_response(problem: Problem, scope: Scope) -> JSONResponse:
    """The response that shows a problem. No other code makes one."""
    instance = quote(scope["path"])[:INSTANCE_CHARS]
    headers = {"Cache-Control": "no-store", **problem.headers}
    if problem.kind.retry_after_s is not None:
        headers.setdefault("Retry-After", str(problem.kind.retry_after_s))
    return JSONResponse(
        problem.object(instance=instance, request_id=REQUEST_ID.get()),
        status_code=problem.kind.status,
        headers=headers,
        media_type=MEDIA_TYPE,
    )


async def on_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    if error.kind.status >= 500:
        log.error("%s", error, exc_info=error.__cause__)
    return problem_response(error, request.scope)


async def on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = FRAMEWORK_CODES.get(error.status_code, "internal_error")
    headers = allow(request) if code == "method_not_allowed" else error.headers
    return await on_problem(request, Problem(code, headers=headers))


def allow(request: Request) -> dict[str, str]:
    """An `Allow` header with every method of the path; the framework names only those of the path's first route."""
    template = getattr(request.scope.get("route"), "path", "")
    operations: Mapping[str, object] = request.app.openapi()["paths"].get(template, {"get": {}})
    return {"Allow": ", ".join(sorted(name.upper() for name in operations if name != "parameters"))}


async def on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return await on_problem(request, invalid_request(error))


async def on_redis_error(request: Request, error: Exception) -> JSONResponse:
    log.error("redis: %s: %s", type(error).__name__, error)
    return problem_response(Problem("redis_unavailable"), request.scope)


def invalid_request(error: ValidationError | RequestValidationError) -> Problem:
    """A `validation_error` that points at every bad field. It never shows what was sent."""
    # FastAPI's locations begin with where a field stood: in the query, the path or the headers.
    skip = 1 if isinstance(error, RequestValidationError) else 0
    return validation_problem((entry["loc"][skip:], entry["msg"]) for entry in error.errors())


def install(app: FastAPI) -> None:
    """Register the handlers. What none of them catches, `RequestMiddleware` does."""
    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, on_invalid_request)
    app.add_exception_handler(RedisError, on_redis_error)
