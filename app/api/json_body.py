"""Small JSON bodies, read after the caller is authenticated. FastAPI itself would read a body of any length before.

Errors never show what was sent.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from app.api.errors import invalid_request
from app.api.uploads.receiver import body_chunks, check_body_headers
from app.core.problems import Problem

#: Many times the size of the largest valid request.
MAX_JSON_BYTES = 64 * 1024
TIMEOUT_S = 10.0

Model = TypeVar("Model", bound=BaseModel)


def json_body(model: type[Model]) -> Callable[[Request], Awaitable[Model]]:
    """A dependency: the body as `model`. Declare it after the caller, so that no body is read without a valid key."""

    async def read(request: Request) -> Model:
        return parse(model, await read_body(request, max_bytes=MAX_JSON_BYTES))

    return read


async def read_body(request: Request, *, max_bytes: int, timeout_s: float = TIMEOUT_S) -> bytes:
    """The whole of a small body. Raises `payload_too_large`, `upload_timeout`, and `ClientDisconnect`."""
    check_body_headers(request, max_bytes)
    chunks = body_chunks(request, idle_timeout_s=TIMEOUT_S, max_bytes=max_bytes)
    try:
        async with asyncio.timeout(timeout_s):
            return b"".join([chunk async for chunk in chunks])
    except TimeoutError:
        raise Problem("upload_timeout", f"The body took longer than {timeout_s:g} s.") from None


def parse(model: type[Model], body: bytes) -> Model:
    """The body as `model`. Raises one problem that points at every bad field."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise invalid_request(error) from None
