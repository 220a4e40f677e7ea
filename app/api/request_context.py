"""The trace of a request: what has become known of it on its way in, for its log line and its answer's headers."""

from dataclasses import dataclass, field
from typing import cast

from starlette.requests import HTTPConnection
from starlette.types import Scope

from app.core.callers import Caller


@dataclass
class RequestContext:
    """Filled in by whoever learns something, read by the outermost layer. `headers` go into any answer."""

    received_bytes: int = 0
    caller: Caller | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def begin(cls, scope: Scope) -> "RequestContext":
        """A new trace, found again with `of`."""
        trace = cls()
        scope.setdefault("state", {})["trace"] = trace
        return trace

    @staticmethod
    def of(request: HTTPConnection) -> "RequestContext":
        """The trace of a request."""
        return cast(RequestContext, request.state.trace)
