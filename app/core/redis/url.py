"""Redis URLs: where Redis is and as whom it is used. The one parser, for every client of the service.

`redis://[user:password@]host[:port][/db]`, `rediss://` over TLS, `unix://[user:password@]/path[?db=N]`, and
`redis+sentinel://[user:password@]host[:port],host[:port]/name[/db]` for the master that Sentinels name, with
`rediss+sentinel://` over TLS. `valkey` may stand for `redis`. Options follow in the query: those of redis-py, such as
`ssl_ca_certs`, `ssl_certfile` and `ssl_keyfile`; and `sentinel_username` and `sentinel_password`.

An error never shows what was given, because a password may be part of it.
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from redis.connection import parse_url
from redis.exceptions import RedisError

from app.core.redis.connections import CONNECTIONS, Pool

DEFAULT_SENTINEL_PORT = 26379
#: What redis-py's own parser calls each of our schemes, and whether Sentinels are asked for the master.
SCHEMES = {
    **dict.fromkeys(("redis", "valkey"), ("redis", False)),
    **dict.fromkeys(("rediss", "valkeys"), ("rediss", False)),
    **dict.fromkeys(("redis+sentinel", "valkey+sentinel"), ("redis", True)),
    **dict.fromkeys(("rediss+sentinel", "valkeys+sentinel"), ("rediss", True)),
    "unix": ("unix", False),
}
#: Options of redis-py that a query may have, beside those of TLS. The others take what is no text, or break a client.
OPTIONS = {
    *("db", "username", "password", "host", "port", "path", "client_name", "protocol"),
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "health_check_interval", "max_connections"),
}

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]")
_OPTION_NAME = re.compile(r"[a-z_]{1,40}")
_SENTINEL_OPTION = "sentinel_"

ENCODE = "write characters of a user or password that mean something in a URL, such as / ? # and @, as %2F %3F %23 %40"


class BadRedisUrl(ValueError):
    """The URL cannot be used; the text says why and shows nothing of it."""


@dataclass(frozen=True)
class RedisUrl:
    """A URL's parts. `transport` is `redis`, `rediss` (TLS) or `unix`.

    `options` are arguments of a connection of redis-py. `sentinels` are hosts and ports, none when the URL names Redis
    itself; `sentinel_options` are how they are reached, beside what the connections to Redis have in common with those.
    """

    transport: str
    options: Mapping[str, Any] = field(repr=False)
    sentinels: tuple[tuple[str, int], ...] = ()
    master_name: str = ""
    sentinel_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str) -> "RedisUrl":
        """Raises `BadRedisUrl`."""
        scheme, separator, rest = url.partition("://")
        if not separator or scheme.lower() not in SCHEMES:
            raise BadRedisUrl(f"it must begin with one of {', '.join(f'{name}://' for name in SCHEMES)}")
        if _FORBIDDEN.search(rest):
            raise BadRedisUrl("it must have no space and no control character in it")
        transport, by_sentinel = SCHEMES[scheme.lower()]
        parts = _split(f"{transport}://{rest}")
        if transport != "unix":
            _check_delimiters(parts)
        return _of_sentinels(transport, parts) if by_sentinel else _of_server(transport, parts)


def _of_server(transport: str, parts: SplitResult) -> RedisUrl:
    if transport == "unix":
        if parts.path in ("", "/"):
            raise BadRedisUrl("it must name the path of a socket")
    else:
        _host_and_port(parts.netloc.rpartition("@")[2])
        _check_database(parts.path.strip("/"))
    return RedisUrl(transport, _options(transport, parts.netloc, parts.path, parts.query))


def _of_sentinels(transport: str, parts: SplitResult) -> RedisUrl:
    """The user and the password are those of Redis."""
    userinfo, at, hosts = parts.netloc.rpartition("@")
    sentinels = tuple(_host_and_port(host) for host in hosts.split(","))
    if not all(host for host, _ in sentinels):
        raise BadRedisUrl("it must name the Sentinels as host:port,host:port")
    name, _, database = parts.path.strip("/").partition("/")
    if not name:
        raise BadRedisUrl("its path must be the name under which the Sentinels know the master, such as /mymaster/0")
    _check_database(database)
    given = parse_qsl(parts.query)
    query = urlencode([(name, value) for name, value in given if not name.startswith(_SENTINEL_OPTION)])
    own = {name.removeprefix(_SENTINEL_OPTION): value for name, value in given if name.startswith(_SENTINEL_OPTION)}
    if not own.keys() <= {"username", "password"}:
        raise BadRedisUrl("of its options for the Sentinels only sentinel_username and sentinel_password are known")
    options = _options(transport, f"{userinfo}{at}", f"/{database}", query)
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    return RedisUrl(transport, options, _with_default_port(sentinels), name, {**tls, **own})


def _with_default_port(hosts: tuple[tuple[str, int | None], ...]) -> tuple[tuple[str, int], ...]:
    return tuple((host, port or DEFAULT_SENTINEL_PORT) for host, port in hosts)


def _check_delimiters(parts: SplitResult) -> None:
    """A password that was not encoded ends the host's part too soon, and its rest would count as something else."""
    if parts.fragment or "@" in parts.path + parts.query:
        raise BadRedisUrl(ENCODE)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise BadRedisUrl(f"its host cannot be read; {ENCODE}") from None


def _host_and_port(netloc: str) -> tuple[str, int | None]:
    parts = _split(f"//{netloc}")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise BadRedisUrl(f"its port must be a number from 1 to 65535; {ENCODE}")
    return parts.hostname or "", port


def _check_database(path: str) -> None:
    if path and not (path.isascii() and path.isdigit()):
        raise BadRedisUrl("the number of the database at the end of its path must be a number, such as /0")


def _options(transport: str, netloc: str, path: str, query: str) -> dict[str, Any]:
    """Arguments of a connection, tried out as far as that is possible without connecting."""
    try:
        options: dict[str, Any] = parse_url(f"{transport}://{netloc}{path}?{query}")  # type: ignore[no-untyped-call]
    except ValueError:
        raise BadRedisUrl("one of its options has a value that cannot be used") from None
    options.pop("connection_class", None)
    for name, value in options.items():
        if not _is_usable(transport, name, value):
            shown = name if _OPTION_NAME.fullmatch(name) else "one of its options"
            raise BadRedisUrl(f"{shown} is not known, or has a value that cannot be used")
    if transport == "rediss":
        _check_certificates(options)
    return options


def _is_usable(transport: str, name: str, value: Any) -> bool:
    if name not in OPTIONS and not name.startswith("ssl_"):
        return False
    try:
        Pool(connection_class=CONNECTIONS[transport], **{name: value}).make_connection()
    except (TypeError, ValueError, RedisError):
        return False
    return True


def _check_certificates(options: Mapping[str, Any]) -> None:
    """That the files can be read is found out now, and not with every connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authorities, certificate, key = (options.get(f"ssl_{name}") for name in ("ca_certs", "certfile", "keyfile"))
    try:
        if authorities:
            context.load_verify_locations(authorities)
    except OSError:
        raise BadRedisUrl("the file of ssl_ca_certs cannot be read as certificates in PEM") from None
    try:
        if certificate or key:
            context.load_cert_chain(certificate or "", key, options.get("ssl_password") or "")
    except (OSError, TypeError):
        raise BadRedisUrl("ssl_certfile and ssl_keyfile cannot be read as a certificate and its key in PEM") from None
