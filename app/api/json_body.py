"""JSON bodies: small ones, read once the caller is known. The framework would read any length before it asks who sends.

Knows no route. What was sent is never shown in an error.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from app.api.errors import invalid_request
from app.api.uploads.receiver import body_chunks, check_declared_length
from app.core.problems import Problem

#: Many times what the largest honest request needs.
MAX_JSON_BYTES = 64 * 1024
TIMEOUT_S = 10.0

Model = TypeVar("Model", bound=BaseModel)


def json_body(model: type[Model]) -> Callable[[Request], Awaitable[Model]]:
    """A dependency: the body as `model`. Name it after the caller in a route, so that strangers are not read."""

    async def read(request: Request) -> Model:
        check_declared_length(request, MAX_JSON_BYTES, framing_bytes=0)
        chunks = body_chunks(request, idle_timeout_s=TIMEOUT_S, max_bytes=MAX_JSON_BYTES)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                body = b"".join([chunk async for chunk in chunks])
        except TimeoutError:
            raise Problem("upload_timeout", f"The body took longer than {TIMEOUT_S:g} s.") from None
        return parsed(model, body)

    return read


def parsed(model: type[Model], body: bytes) -> Model:
    """The body, checked; raises one problem that points at everything that is wrong."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise invalid_request(error) from None
