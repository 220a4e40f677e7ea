"""The context of a request: facts found while it is processed, for its log line and its response's headers."""

from dataclasses import dataclass, field
from typing import cast

from starlette.requests import HTTPConnection
from starlette.types import Scope

from app.api.auth.rate_limits import RateLimitStatus
from app.core.callers import Caller


@dataclass
class RequestContext:
    """Written by any layer, read by the outermost. `headers` go into the response, whatever it is.

    `rate_limits` is what the request has left of the limits of its key; `is_change` says that it is allowed a change.
    """

    received_bytes: int = 0
    caller: Caller | None = None
    rate_limits: RateLimitStatus | None = None
    is_change: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def begin(cls, scope: Scope) -> "RequestContext":
        """A new context, kept in the request's scope for `of`."""
        context = cls()
        scope.setdefault("state", {})["context"] = context
        return context

    @staticmethod
    def of(request: HTTPConnection) -> "RequestContext":
        """The context of a request."""
        return cast(RequestContext, request.state.context)
