"""Authentication: from a request's headers to its caller, before a byte of its body is read.

Routes take a caller as `ReadJobs`, `WriteScores` and so on, by the scope that its key needs.
"""

import logging
import time
from collections.abc import Sequence
from functools import cache
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from fastapi.security.utils import get_authorization_scheme_param

from app.api.auth.api_keys import ApiKey, KeyLookup, KeyStore
from app.api.auth.rate_limits import Quotas
from app.api.query import check_query
from app.api.request_context import RequestContext
from app.core.callers import CHANGING_SCOPES, EMBEDDINGS_SCOPE, OPS_SCOPE, Limits, data_owner
from app.core.callers import Caller as Caller
from app.core.problems import Problem

log = logging.getLogger(__name__)

KEYS_LOST = "This server requires API keys and has lost those that it knew; its operator must make new ones."
#: What proxies add to a request.
FORWARDED_HEADERS = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via"})
#: A service without keys checks this often whether one was created.
RECHECK_INTERVAL_S = 1.0


class Authenticator:
    """Finds the caller of a request by its API key.

    Callers without a key are accepted until there is one; from then on no more, and nothing is cached.
    """

    def __init__(self, store: KeyStore, *others: KeyLookup, required: bool, limits: Limits) -> None:
        self._store = store
        self._keys: Sequence[KeyLookup] = (*others, store)
        self._key_required = required or bool(others)
        self._limits = limits
        self._checked_at = float("-inf")

    def accepts_anonymous(self) -> bool:
        """Whether there were no keys at a check within RECHECK_INTERVAL_S. Does not ask Redis."""
        return not self._key_required and time.monotonic() - self._checked_at < RECHECK_INTERVAL_S

    def caller(self, presented: str | None) -> Caller:
        """The caller who presents this key, or none. Raises `unauthorized`, also for a key just revoked. Blocking."""
        if not self._requires_key():
            return Caller()
        matches = [keys.find(presented) for keys in self._keys] if presented else []
        key = next(filter(None, matches), None)
        if key is None:
            raise Problem("unauthorized", self._keys_lost(), headers={"WWW-Authenticate": "Bearer"})
        return self._caller(key)

    def _keys_lost(self) -> str | None:
        """Why no key is accepted at all, where that is so."""
        if len(self._keys) > 1 or not self._store.are_lost():
            return None
        log.error("Redis has lost the API keys: nobody gets in until 'apex keys create' makes new ones")
        return KEYS_LOST

    def _requires_key(self) -> bool:
        if not self._key_required:
            self._key_required = self._store.any()
            self._checked_at = time.monotonic()
        return self._key_required

    def _caller(self, key: ApiKey) -> Caller:
        owner, limits = data_owner(key.tenant, livemode=key.livemode), key.limits.with_defaults(self._limits)
        return Caller(owner, key.id, frozenset(key.scopes), limits)


class RequireScope(SecurityBase):
    """A dependency that authenticates the caller and counts the request. A service without keys accepts everybody.

    Raises `unauthorized` without a valid key, `quota_exceeded`, `forbidden_scope` for a key without the scope, and
    `validation_error` for a parameter in the query that the operation does not know.
    One dependency rather than one for each step, because FastAPI takes longer to resolve one than a step takes.
    """

    def __init__(self, scope: str | None = None) -> None:
        self.model = HTTPBearer(description="An API key.")
        self.scheme_name = "bearer"
        self.scope = scope

    async def __call__(self, request: Request) -> Caller:
        caller = await _authenticate_request(request)
        if self.scope is not None:
            check_scope(caller, self.scope)
            RequestContext.of(request).is_change = self.scope in CHANGING_SCOPES
        check_query(request)
        return caller


def check_scope(caller: Caller, scope: str) -> None:
    """Raise `forbidden_scope` for a caller whose key lacks the scope."""
    if scope not in caller.scopes:
        raise Problem("forbidden_scope", f"The key lacks the scope {scope}.", required_scope=scope)


async def _authenticate_request(request: Request) -> Caller:
    authenticator: Authenticator = request.app.state.services.authenticator
    presented = presented_key(request)
    # A presented key is always checked: it may be the first one, created since the last check.
    if presented is None and authenticator.accepts_anonymous():
        RequestContext.of(request).caller = caller = Caller()
    else:
        caller = await run_in_threadpool(_authenticate, request, authenticator, presented)
    if caller.key_id is None:
        if not FORWARDED_HEADERS.isdisjoint(name for name, _ in request.headers.raw):
            _warn_of_proxy()
        request.app.state.services.cross_site_check(request, method=request.method)
    return caller


def reauthenticate(request: Request) -> None:
    """Raise `unauthorized` if the caller of a request that takes long would not be let in any more. Blocking.

    Its key may have been revoked meanwhile, or, for a caller without one, the first key created. Counts no request.
    """
    authenticator: Authenticator = request.app.state.services.authenticator
    try:
        authenticator.caller(presented_key(request))
    except Problem:
        RequestContext.of(request).headers.clear()  # the limits of a key that is none any more
        raise


def presented_key(request: Request) -> str | None:
    """The key in `Authorization: Bearer`, or else in `X-API-Key`; None without either."""
    scheme, credentials = get_authorization_scheme_param(request.headers.get("authorization"))
    bearer = credentials if scheme.lower() == "bearer" else ""
    return bearer or request.headers.get("x-api-key") or None


def _authenticate(request: Request, authenticator: Authenticator, presented: str | None) -> Caller:
    context, quotas = RequestContext.of(request), cast(Quotas, request.app.state.services.quotas)
    context.caller = caller = authenticator.caller(presented)
    if status := quotas.consume(caller, requests=1):
        context.rate_limits = status
        context.headers.update(status.headers())
        status.raise_if_exceeded()
    return caller


@cache
def _warn_of_proxy() -> None:
    """Warn once that everybody whom a proxy lets through may do everything."""
    log.warning(
        "requests come through a proxy, and there are no API keys: whoever reaches the proxy may do everything. "
        "Set APEX_REQUIRE_API_KEYS=true and make keys with 'apex keys create', unless the proxy admits nobody else"
    )


WriteScores = Annotated[Caller, Depends(RequireScope("score:write"))]
ReadJobs = Annotated[Caller, Depends(RequireScope("jobs:read"))]
DeleteJobs = Annotated[Caller, Depends(RequireScope("jobs:delete"))]
ReadEmbeddings = Annotated[Caller, Depends(RequireScope(EMBEDDINGS_SCOPE))]
ReadOperations = Annotated[Caller, Depends(RequireScope(OPS_SCOPE))]
