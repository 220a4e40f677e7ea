"""CORS: pages of named origins may call the service from a browser. Off unless an operator names some."""

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

METHODS = ("GET", "HEAD", "POST", "DELETE")
#: What a page may read of an answer beside its body.
EXPOSED = (
    "Location", "Retry-After", "ETag", "RateLimit", "RateLimit-Policy", "X-Request-Id", "Idempotent-Replayed",
    "Preference-Applied", "WWW-Authenticate",
)  # fmt: skip
PREFLIGHT_MAX_AGE_S = 600


class Cors(CORSMiddleware):
    """Starlette's, for the named origins alone: requests from anywhere else are answered as if there were no CORS."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.is_allowed_origin(Headers(scope=scope).get("origin", "")):
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def install(app: FastAPI, origins: Sequence[str]) -> None:
    """Answer to pages of these origins. Keys go in a header that a page sets, so cookies need not be allowed."""
    if origins:
        app.add_middleware(
            Cors,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=["*"],
            expose_headers=EXPOSED,
            max_age=PREFLIGHT_MAX_AGE_S,
        )
