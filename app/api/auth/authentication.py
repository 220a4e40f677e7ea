"""Authentication: from a request's headers to its caller, before a byte of its body is read.

Routes take a caller as `ReadJobs`, `WriteScores`, `DeleteJobs` or `ReadOps`, by the scope that its key needs.
"""

import time
from collections.abc import Sequence
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from fastapi.security.utils import get_authorization_scheme_param

from app.api.auth.api_keys import ApiKey, KeyLookup, KeyStore
from app.api.auth.rate_limits import Quotas
from app.api.request_context import RequestContext
from app.core.callers import Caller as Caller
from app.core.callers import Limits
from app.core.problems import Problem

#: An open service looks this often whether its first key was made.
RECHECK_INTERVAL_S = 1.0


class Authenticator:
    """Decides who may come in. Open as long as there are no keys; once closed it stays so, and caches nothing."""

    def __init__(self, store: KeyStore, *others: KeyLookup, required: bool, limits: Limits) -> None:
        self._store = store
        self._keys: Sequence[KeyLookup] = (*others, store)
        self._closed = required or bool(others)
        self._limits = limits
        self._looked_at = float("-inf")

    def is_known_anonymous(self) -> bool:
        """Whether there were no keys a moment ago. Asks nobody."""
        return not self._closed and time.monotonic() - self._looked_at < RECHECK_INTERVAL_S

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
        return Caller(key.tenant, key.id, frozenset(key.scopes), key.limits.with_defaults(self._limits))


class RequireScope(SecurityBase):
    """A dependency: the caller, whose request is counted. On a service without keys everybody is let in.

    Raises `unauthorized` without a valid key, `quota_exceeded`, and `forbidden_scope` for a key without the scope.
    One dependency instead of one for each header and step: FastAPI takes longer to resolve them than they work.
    """

    def __init__(self, scope: str | None = None) -> None:
        self.model = HTTPBearer(description="An API key.")
        self.scheme_name = "bearer"
        self.scope = scope

    async def __call__(self, request: Request) -> Caller:
        caller = await _authenticate_request(request)
        if self.scope is not None and self.scope not in caller.scopes:
            raise Problem("forbidden_scope", f"The key lacks the scope {self.scope}.", required_scope=self.scope)
        return caller


async def _authenticate_request(request: Request) -> Caller:
    authenticator: Authenticator = request.app.state.services.authenticator
    presented = presented_key(request)
    # Who shows a key means it: the first one may have been made a moment ago.
    if presented is None and authenticator.is_known_anonymous():
        return Caller()
    return await run_in_threadpool(_authenticate, request, authenticator, presented)


def presented_key(request: Request) -> str | None:
    """What stands in `Authorization: Bearer`, or else in `X-API-Key`."""
    scheme, credentials = get_authorization_scheme_param(request.headers.get("authorization"))
    bearer = credentials if scheme.lower() == "bearer" else ""
    return bearer or request.headers.get("x-api-key") or None


def _authenticate(request: Request, authenticator: Authenticator, presented: str | None) -> Caller:
    context, quotas = RequestContext.of(request), cast(Quotas, request.app.state.services.quotas)
    context.caller = caller = authenticator.caller(presented)
    if status := quotas.consume(caller, requests=1):
        context.headers.update(status.headers())
        status.raise_if_exceeded()
    return caller


WriteScores = Annotated[Caller, Depends(RequireScope("score:write"))]
ReadJobs = Annotated[Caller, Depends(RequireScope("jobs:read"))]
DeleteJobs = Annotated[Caller, Depends(RequireScope("jobs:delete"))]
ReadOps = Annotated[Caller, Depends(RequireScope("ops:read"))]
