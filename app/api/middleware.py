"""The outermost layer: gives each request an id, a log line, and a response even when the application fails."""

import asyncio
import logging
import re
import secrets
import time
import uuid
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import deprecations
from app.api.errors import problem_response
from app.api.pages import PAGE_HEADERS
from app.api.request_context import RequestContext
from app.core.logging import logged_as
from app.core.problems import Problem

log = logging.getLogger("app.requests")
#: A line for each change that a key has made.
audit = logging.getLogger("app.audit")

#: The status in the log line of a client that disconnected; no response has it.
STATUS_CLIENT_CLOSED_REQUEST = 499

_TRACEPARENT = re.compile(r"00-(?P<trace_id>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-(?P<flags>[0-9a-f]{2})")
#: Ids as the service makes them: a client may name anything.
_ID = re.compile(r"(?P<noun>job|bat)_[0-9a-f]{32}")
ID_FIELDS = {"job": "job_id", "bat": "batch_id"}
_EMPTY_FIELD = re.compile(rb"[^=]*=")
_SAFE_ID = re.compile(r"[\x21-\x7e]{1,128}")
#: What `threading` says when the system refuses it a thread. anyio starts one for a request when the others are busy.
NO_THREAD = "can't start new thread"


class RequestMiddleware:
    """ASGI middleware around the whole application. Keeps no state between requests."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        cycle = RequestCycle(routable(scope), receive, send, method=scope["method"])
        with logged_as(cycle.request_id, cycle.parent.trace_id if cycle.parent else None):
            try:
                await self._serve(cycle)
            finally:
                cycle.log()

    async def _serve(self, cycle: "RequestCycle") -> None:
        try:
            await self.app(cycle.scope, cycle.receive, cycle.send)
        except ClientDisconnect:
            cycle.status = STATUS_CLIENT_CLOSED_REQUEST
        except asyncio.CancelledError:
            # The server cancels requests that outlast its shutdown. The task ends here either way; raised further, the
            # cancellation would only log a traceback for every open upload. A response that has begun is cut by the
            # server, because it is not complete.
            if cycle.status is None:
                await cycle.respond(Problem("shutting_down"))
        except Exception as error:
            await cycle.respond(Problem(_unexpected(error)))


def _unexpected(error: Exception) -> str:
    """Log what nobody has dealt with; the code of its problem."""
    if isinstance(error, RuntimeError) and str(error) == NO_THREAD:
        log.error("overloaded: %s", error)
        return "overloaded"
    log.exception("unexpected error")
    return "internal_error"


class RequestCycle:
    """One request and its response, observed on their way through. `method` is the client's, `scope` for the routes."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, method: str) -> None:
        self.scope = scope
        self.method = method
        self.status: int | None = None
        self.request_id = request_id_of(scope)
        self.parent = parent_of(scope)
        self._receive = receive
        self._send = send
        self.context = RequestContext.begin(scope)
        self._body_open = has_body(scope)
        self._started_at = time.monotonic()
        self._location = ""
        self._is_replay = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.context.received_bytes += len(message.get("body", b""))
        self._body_open = message.get("more_body", False)
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._add_headers(MutableHeaders(scope=message))
            await self._send(message)
            if self.method == "HEAD":  # the end, even of a stream of events: its sender is told of a disconnect
                await self._send({"type": "http.response.body"})
        elif self.method != "HEAD":
            await self._send(message)

    async def respond(self, problem: Problem) -> None:
        """Send a problem. Raises it, which cuts the connection, when a response has already begun."""
        if self.status is not None:
            raise problem
        await problem_response(problem, self.scope)(self.scope, self.receive, self.send)

    def log(self) -> None:
        route = self.scope.get("route")
        fields = {
            "method": self.method,
            # Not the path itself, which the client chooses freely.
            "route": getattr(route, "path", None),
            "status": self.status,
            "received_bytes": self.context.received_bytes,
            "duration_ms": round((time.monotonic() - self._started_at) * 1000, 1),
        }
        if caller := self.context.caller:
            fields |= {"tenant": caller.tenant, "key_id": caller.key_id}
        log.info("request", extra=fields | self._ids())
        if self.context.is_change and self.status and self.status < 300 and not self._is_replay:
            self._log_change(getattr(route, "name", ""))

    def _log_change(self, verb: str) -> None:
        """Who did what to what: no header, field or file of the client's is shown."""
        if (caller := self.context.caller) and caller.key_id:
            named = next(iter(self._ids().values()), None)
            who = {"tenant": caller.tenant, "key_id": caller.key_id}
            audit.info("change", extra={**who, "verb": verb, "object": named})

    def _ids(self) -> dict[str, str]:
        """The job or the batch that the path names, or that `Location` leads to."""
        named = (self.scope.get("path_params", {}).get("id", ""), self._location.rpartition("/")[2])
        found = (_ID.fullmatch(name) for name in named)
        return {ID_FIELDS[match["noun"]]: match[0] for match in found if match}

    def _add_headers(self, headers: MutableHeaders) -> None:
        self._location, self._is_replay = headers.get("location", ""), "idempotent-replayed" in headers
        headers["X-Request-Id"] = self.request_id
        if self.parent:
            headers["traceparent"] = self.parent.child()
        headers["X-Content-Type-Options"] = "nosniff"
        if headers.get("content-type", "").startswith("text/html"):
            for name, value in PAGE_HEADERS.items():
                headers.setdefault(name, value)
        headers.update(self.context.headers)
        if deprecation := deprecations.DEPRECATIONS.get(getattr(self.scope.get("route"), "name", "")):
            headers.update(deprecation.headers(self.scope["root_path"]))
        if self._body_open:
            # The response comes before the end of the body; to keep the connection, the rest would have to be read.
            headers["Connection"] = "close"


def routable(scope: Scope) -> Scope:
    """The request as the routes see it.

    HEAD is a GET whose body is not sent. The path begins with the root path, whether or not a proxy has taken it off.
    Query parameters without a value (`name=`) are left out: an empty field counts as absent.
    """
    root, path = scope["app"].state.root_path, scope["path"]
    pairs = scope["query_string"].split(b"&")
    return {
        **scope,
        "method": "GET" if scope["method"] == "HEAD" else scope["method"],
        "root_path": root,
        "path": path if f"{path}/".startswith(f"{root}/") else root + path,
        "query_string": b"&".join(pair for pair in pairs if not _EMPTY_FIELD.fullmatch(pair)),
    }


def request_id_of(scope: Scope) -> str:
    """The id that the client sent, if it is safe to log and return; else a new one."""
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex


@dataclass(frozen=True)
class TraceParent:
    """The parent of a request in a distributed trace, from its `traceparent` header (W3C Trace Context)."""

    trace_id: str
    flags: str

    def child(self) -> str:
        """A new span in the same trace, as a header."""
        return f"00-{self.trace_id}-{secrets.token_hex(8)}-{self.flags}"


def parent_of(scope: Scope) -> TraceParent | None:
    """The parent that the request names; None when it names none, or none that can be parsed."""
    match = _TRACEPARENT.fullmatch(Headers(scope=scope).get("traceparent", ""))
    return TraceParent(match["trace_id"], match["flags"]) if match else None


def has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
