"""Checks each response that a test of the front end gets against the OpenAPI document."""

import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from app.core.json_types import Json
from app.core.problems import MEDIA_TYPE
from app.core.settings import ApiSettings
from app.main import create_app

#: Headers of every message, of the transport, and for browsers and proxies: no answer documents them one by one.
EVERYWHERE = {"content-length", "content-type", "connection", "x-content-type-options", "x-accel-buffering"}
EVERYWHERE |= {"content-security-policy", "x-frame-options", "referrer-policy"}
EVERYWHERE |= {"vary", "access-control-allow-origin", "access-control-expose-headers"}


@cache
def document() -> Json:
    with TemporaryDirectory() as directory:
        return create_app(ApiSettings(data_dir=Path(directory))).openapi()


def check_documented(response: httpx.Response) -> None:
    """The answer's status, code and headers are all in the document, if its request belongs to an operation."""
    operation = _operation(response.request.method, response.request.url.path)
    if operation is None:
        return
    said = operation["responses"].get(str(response.status_code))
    assert said, f"{operation['operationId']} does not document {response.status_code}: {response.text}"
    if response.headers.get("content-type") == MEDIA_TYPE:
        assert response.json()["code"] in said["content"][MEDIA_TYPE]["examples"], operation["operationId"]
    known = {name.lower() for name in said["headers"]} | EVERYWHERE
    surprising = set(response.headers) - known
    assert not surprising, f"{operation['operationId']} does not document {surprising} on {response.status_code}"


def _operation(method: str, path: str) -> Json | None:
    for template, item in document()["paths"].items():
        if method.lower() in item and re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), path):
            operation: Json = item[method.lower()]
            return operation
    return None
