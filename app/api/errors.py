"""Errors: turns every exception that a route raises, ours or the framework's, into a problem response."""

import logging
from collections.abc import Mapping
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from app.api.pages import page, wants_page
from app.core.logging import REQUEST_ID
from app.core.problems import MEDIA_TYPE, Problem, validation_problem
from app.core.redis.failure import brief
from app.core.redis.replicas import NotReplicated
from app.core.stored import Unreadable

log = logging.getLogger(__name__)

INSTANCE_CHARS = 256

#: Codes for the framework's own exceptions, by status. Their texts are not shown.
FRAMEWORK_CODES: Mapping[int, str] = {
    400: "malformed_multipart",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
}


def problem_response(problem: Problem, scope: Scope) -> Response:
    """The response that shows a problem: JSON, or a page for a person who follows a link. No other code makes one."""
    request, root = Request(scope), scope["app"].state.root_path
    members = {"instance": quote(scope["path"])[:INSTANCE_CHARS], "request_id": REQUEST_ID.get()}
    response: Response
    if scope["method"] == "GET" and wants_page(request):
        response = page(request, "error.html", status=problem.kind.status, **vars(problem), **members)
    else:
        body = problem.object(**members) | {"type": root + problem.kind.type}
        response = JSONResponse(body, status_code=problem.kind.status, media_type=MEDIA_TYPE)
    response.headers.update({"Cache-Control": "no-store", **problem.headers})
    if problem.kind.retry_after_s is not None:
        response.headers.setdefault("Retry-After", str(problem.kind.retry_after_s))
    return response


async def on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    log_failure(error)
    return problem_response(error, request.scope)


def log_failure(problem: Problem) -> None:
    """Log a problem of ours, and nothing for one of the client's: in a line where something is away, else as a bug.

    A refusal by a limit is no error: it was meant to be made.
    """
    cause = problem.__cause__
    if problem.kind.is_limit:
        log.info("%s", problem)
    elif problem.kind.status == 500:
        log.error("%s", problem, exc_info=cause)
    elif problem.kind.status > 500:
        log.error("%s", f"{problem}: {cause}" if cause else problem)


async def on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = FRAMEWORK_CODES.get(error.status_code, "internal_error")
    headers = allow(request) if code == "method_not_allowed" else error.headers
    if code == "method_not_allowed" and request.method == "OPTIONS":
        return Response(status_code=204, headers=headers)
    return await on_problem(request, Problem(code, headers=headers))


def allow(request: Request) -> dict[str, str]:
    """An `Allow` header with every method of the path; the framework names only those of the path's first route."""
    template = getattr(request.scope.get("route"), "path", "")
    operations: Mapping[str, object] = request.app.openapi()["paths"].get(template, {"get": {}})
    methods = {name.upper() for name in operations if name != "parameters"} | {"OPTIONS"}
    return {"Allow": ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))}


async def on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await on_problem(request, invalid_request(error))


async def on_redis_error(request: Request, error: Exception) -> Response:
    log.error("redis: %s", brief(error))
    return problem_response(Problem("redis_unavailable"), request.scope)


async def on_not_replicated(request: Request, error: Exception) -> Response:
    log.error("not replicated: %s", error)
    return problem_response(Problem("not_replicated"), request.scope)


async def on_unreadable(request: Request, error: Exception) -> Response:
    log.error("unreadable: %s", error)
    return problem_response(Problem("internal_error", "What is stored of it cannot be read."), request.scope)


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
    app.add_exception_handler(NotReplicated, on_not_replicated)
    app.add_exception_handler(Unreadable, on_unreadable)
