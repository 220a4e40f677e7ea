"""Authentication: from a request's headers to its caller, before a byte of its body is read.

Routes take a caller as `ReadJobs`, `WriteScores`, `DeleteJobs` or `ReadOps`; `authenticate` alone asks for any key.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from app.keys import ApiKey, Keys, KeyStore, Limits
from app.keys import Caller as Caller
from app.problems import Problem
from app.quotas import Quotas
from app.trace import Trace

#: An open service looks this often whether its first key was made.
LOOK_EVERY_S = 1.0

_BEARER = HTTPBearer(auto_error=False, scheme_name="bearer", description="An API key.")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="api_key", description="An API key.")


class Door:
    """Decides who may come in. Open as long as there are no keys; once closed it stays so, and caches nothing."""

    def __init__(self, store: KeyStore, *others: Keys, required: bool, limits: Limits) -> None:
        self._store = store
        self._keys: Sequence[Keys] = (*others, store)
        self._closed = required or bool(others)
        self._limits = limits
        self._looked_at = float("-inf")

    def is_known_open(self) -> bool:
        """Whether there were no keys a moment ago. Asks nobody."""
        return not self._closed and time.monotonic() - self._looked_at < LOOK_EVERY_S

    def caller(self, presented: str | None) -> Caller:
        """Who presents this. Raises `unauthorized`; a revoked key is refused at once. Blocking."""
        if not self._is_closed():
            return Caller()
        found = [keys.find(presented) for keys in self._keys] if presented else []
        key = next(filter(None, found), None)
        if key is None:
            raise Problem("unauthorized", headers={"WWW-Authenticate": "Bearer"})
        return self._caller(key)

    def _is_closed(self) -> bool:
        if not self._closed:
            self._closed = self._store.any()
            self._looked_at = time.monotonic()
        return self._closed

    def _caller(self, key: ApiKey) -> Caller:
        return Caller(key.tenant, key.id, frozenset(key.scopes), key.limits.over(self._limits))


async def authenticate(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    header: Annotated[str | None, Depends(_HEADER)],
) -> Caller:
    """The caller, whose request is counted; raises `quota_exceeded`, or `unauthorized` without a valid key.

    On a service without keys everybody is let in.
    """
    door: Door = request.app.state.services.door
    presented = bearer.credentials if bearer else header
    # Who shows a key means it: the first one may have been made a moment ago.
    if presented is None and door.is_known_open():
        return Caller()
    return await run_in_threadpool(_enter, request, door, presented)


def _enter(request: Request, door: Door, presented: str | None) -> Caller:
    trace, quotas = Trace.of(request), cast(Quotas, request.app.state.services.quotas)
    trace.caller = caller = door.caller(presented)
    if standing := quotas.take(caller, requests=1):
        trace.headers.update(standing.headers())
        standing.refuse_reached()
    return caller


@cache
def require(scope: str) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency: the caller, when its key has the scope; raises `forbidden_scope` otherwise."""

    async def scoped(caller: Annotated[Caller, Depends(authenticate)]) -> Caller:
        if scope not in caller.scopes:
            raise Problem("forbidden_scope", f"The key lacks the scope {scope}.", required_scope=scope)
        return caller

    return scoped


WriteScores = Annotated[Caller, Depends(require("score:write"))]
ReadJobs = Annotated[Caller, Depends(require("jobs:read"))]
DeleteJobs = Annotated[Caller, Depends(require("jobs:delete"))]
ReadOps = Annotated[Caller, Depends(require("ops:read"))]
