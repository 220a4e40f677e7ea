"""The guarded client: HTTP to the outside, to what the egress rules allow and to nothing else."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path

import certifi
import httpx
from anyio import CapacityLimiter, to_thread

from app.core.egress_rules import EgressRules

#: The addresses of a host, at least one. Raises `OSError` where there is none.
Resolve = Callable[[str], Awaitable[list[str]]]

USER_AGENT = "apex-scoring"
#: Names that may be looked up at a time: one that nobody answers for takes a thread for many seconds.
MAX_LOOKUPS = 64


def guarded_client(
    rules: EgressRules, *, timeout_s: float, ca_file: Path | None = None, resolve: Resolve | None = None
) -> httpx.AsyncClient:
    """A client that calls what the rules allow, and raises `EgressForbidden` for everything else.

    A URL that `EgressRules.check_url` accepts is one that httpx can read; others may raise `httpx.InvalidURL`.

    A name is resolved once for each request, every address of it is checked, and the connection goes to an address that
    was checked, while TLS and `Host` keep the name. Follows no redirect, uses no proxy, reads no environment, keeps no
    cookie and no connection.

    timeout_s : for connecting, and for each read and write; how long all of it may take is the caller's to limit
    ca_file : certificates of authorities to trust beside the public ones
    """
    return httpx.AsyncClient(
        transport=_GuardedTransport(rules, timeout_s, _tls_context(ca_file), resolve or _system_resolver()),
        timeout=timeout_s,
        headers={"User-Agent": USER_AGENT},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        trust_env=False,
        follow_redirects=False,
    )


class _GuardedTransport(httpx.AsyncHTTPTransport):
    """Checks each request, whether a caller made it or a redirect, and pins it to a checked address."""

    def __init__(self, rules: EgressRules, timeout_s: float, tls: ssl.SSLContext, resolve: Resolve) -> None:
        # A connection kept open is found again by its address, where names that share one must not meet.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        super().__init__(verify=tls, trust_env=False, limits=limits)
        self._rules, self._timeout_s, self._resolve = rules, timeout_s, resolve

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = self._rules.check_url(str(request.url))
        addresses = await self._addresses(request, host)
        self._rules.check_addresses(addresses, host)
        for address in addresses[:-1]:
            try:
                return await super().handle_async_request(_pinned(request, host, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # nothing was sent
        return await super().handle_async_request(_pinned(request, host, addresses[-1]))

    async def _addresses(self, request: httpx.Request, host: str) -> list[str]:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._resolve(host)
        except TimeoutError:
            raise httpx.ConnectTimeout("the name was not resolved in time", request=request) from None
        except (OSError, UnicodeError):  # the latter for names that are too long
            raise httpx.ConnectError("the name cannot be resolved", request=request) from None


def _pinned(request: httpx.Request, host: str, address: str) -> httpx.Request:
    """The request, to this address; its `Host` was set when it was made."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certifi.where())
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


def _system_resolver() -> Resolve:
    limiter = CapacityLimiter(MAX_LOOKUPS)

    async def resolve(host: str) -> list[str]:
        return await to_thread.run_sync(_lookup, host, abandon_on_cancel=True, limiter=limiter)

    return resolve


def _lookup(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
