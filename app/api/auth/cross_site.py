"""Cross-site requests: what pages of other sites have a browser send to a service without API keys.

Whoever reaches a service without keys may use it, and on loopback that is everybody on this machine: its browsers too,
whatever page they show. A page of another site can post a form to 127.0.0.1, or be read from a name of its own that
resolves to 127.0.0.1, and is then of the same origin as the service (DNS rebinding). A key, which no page has, prevents
both.
"""

import re
from collections.abc import Collection
from functools import lru_cache

from starlette.requests import HTTPConnection

from app.core.problems import Problem
from app.core.settings import is_loopback

#: Methods that change nothing. A page of another site cannot read their answers.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK = "localhost"
_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]+))(?::[0-9]*)?")


class CrossSiteCheck:
    """The check of requests without a key. Not `active` where the operator says that anybody may use the service.

    hosts : names of the service beside those of loopback
    origins : sites whose pages may call the service, beside its own
    """

    def __init__(self, *, active: bool, hosts: Collection[str] = (), origins: Collection[str] = ()) -> None:
        self._active = active
        self._hosts = frozenset((LOOPBACK, *hosts))
        self._origins = frozenset(origins)

    def __call__(self, request: HTTPConnection, *, method: str) -> None:
        """Raise `cross_site_request` for what only a page of another site would send.

        Programs send no `Origin`, and browsers never leave out `Host`.
        """
        if not self._active:
            return
        host, origin = request.headers.get("host"), request.headers.get("origin")
        if host is not None and name_of(host) not in self._hosts:
            raise Problem("cross_site_request", "The Host header is no name of this service.")
        if origin is not None and method not in SAFE_METHODS and not self._is_allowed(origin, host):
            raise Problem("cross_site_request", "The Origin header names another site than this service.")

    def _is_allowed(self, origin: str, host: str | None) -> bool:
        return origin in self._origins or origin in (f"http://{host}", f"https://{host}")


@lru_cache(maxsize=64)
def name_of(host: str) -> str:
    """The name in a `Host` header without its port: LOOPBACK for every loopback address, empty for what is no host."""
    match = _HOST.fullmatch(host.lower())
    name = (match["ipv6"] or match["name"]) if match else ""
    return LOOPBACK if is_loopback(name) else name
