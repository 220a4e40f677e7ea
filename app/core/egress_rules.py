"""Egress rules: which URLs and which addresses this service may call. Nothing here connects or resolves anything."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from model.domain import ApexError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: For networks of `EgressRules`: the machine itself.
LOOPBACK: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
#: Called by nobody, whatever networks are allowed: unspecified, link-local with the metadata services of most clouds,
#: multicast, broadcast, and the metadata services of AWS over IPv6, of Azure, Alibaba and Oracle.
_NEVER: tuple[Network, ...] = (
    *map(IPv4Network, ("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32")),
    *map(IPv4Network, ("168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32")),
    *map(IPv6Network, ("::/128", "fe80::/10", "ff00::/8", "fd00:ec2::/32")),
)
#: What `ipaddress` calls global, or may in another version of Python, and is not a host of the Internet: relays and
#: addresses of 6to4, Teredo and benchmarking, documentation.
_NOT_GLOBAL: tuple[Network, ...] = (
    IPv4Network("192.88.99.0/24"),
    *map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")),
)
#: Every host of the Internet over IPv6 is in here, and no address that carries one of IPv4, as NAT64's and mapped ones.
_GLOBAL_UNICAST = IPv6Network("2000::/3")

#: A strict part of RFC 3986, in which no two parsers can disagree about the host.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]{1,253})(:(?P<port>[0-9]{1,5}))?([/?][!-~]*)?",
    re.IGNORECASE | re.ASCII,
)
_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_USERINFO = re.compile(r"[^/]*//[^/?#]*@")
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
#: What resolvers may take for an IPv4 address in decimal, octal or hexadecimal digits.
_ENDS_IN_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")
MAX_PORT = 65_535
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Reason(StrEnum):
    """Why something may not be called."""

    MALFORMED = "malformed"
    SCHEME = "scheme"
    USERINFO = "userinfo"
    HOST = "host"
    PORT = "port"
    ADDRESS = "address"


_SENTENCES = {
    Reason.MALFORMED: "The URL is not an absolute one in ASCII, with its host as a name or a plain address.",
    Reason.SCHEME: "Only https is called.",
    Reason.USERINFO: "A URL may have no user name and no password.",
    Reason.HOST: "This host is not called.",
    Reason.PORT: "This port is not called.",
    Reason.ADDRESS: "The host has an address that is not called.",
}


class EgressForbidden(ApexError):
    """Something that the rules do not let this service call. The text shows nothing of the URL."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(_SENTENCES[reason])
        self.reason = reason


@dataclass(frozen=True)
class EgressRules:
    """What may be called: hosts of the Internet over TLS, and what else is named here.

    hosts : names and addresses; `*.example.com` is every name below that one, `*` every host
    ports : ports that may be called
    networks : networks beside the Internet's whose addresses may be called. To a loopback address among them any port
        and plain `http` are allowed, where the URL says `localhost` or the address.
    """

    hosts: tuple[str, ...]
    ports: frozenset[int] = frozenset({443})
    networks: tuple[Network, ...] = ()

    def check_url(self, url: str) -> str:
        """The host of a URL that may be called, as far as can be told without resolving it, in lower case.

        Raises `EgressForbidden`.
        """
        match = _URL.fullmatch(url)
        if match is None:
            raise EgressForbidden(_misshape(url))
        scheme, host = match["scheme"].lower(), _checked_host(match["host"].lower())
        if not any(_matches(host, pattern) for pattern in self.hosts):
            raise EgressForbidden(Reason.HOST)
        port = int(match["port"] or _DEFAULT_PORTS[scheme])
        if port > MAX_PORT:
            raise EgressForbidden(Reason.MALFORMED)
        self._check_service(scheme, host, port)
        if (literal := _literal(host)) is not None:
            self.check_addresses([literal], host)
        return host

    def check_addresses(self, addresses: Iterable[str | Address], host: str) -> None:
        """Raise `EgressForbidden` unless every address that a checked host has may be called."""
        if not all(self._may_call(ip_address(address), host) for address in addresses):
            raise EgressForbidden(Reason.ADDRESS)

    def _check_service(self, scheme: str, host: str, port: int) -> None:
        if self._is_this_machine(host):
            return
        if scheme != "https":
            raise EgressForbidden(Reason.SCHEME)
        if port not in self.ports:
            raise EgressForbidden(Reason.PORT)

    def _is_this_machine(self, host: str) -> bool:
        """Whether the host says that it is this machine, and that one may be called."""
        literal = _literal(host)
        named = host == "localhost" or (literal is not None and literal.is_loopback)
        return named and any(_overlap(loopback, network) for loopback in LOOPBACK for network in self.networks)

    def _may_call(self, address: Address, host: str) -> bool:
        if _is_in(address, _NEVER):
            return False
        if self._is_this_machine(host) and not address.is_loopback:
            return False  # where plain http is allowed
        return _is_in(address, self.networks) or _is_on_the_internet(address)


def _misshape(url: str) -> Reason:
    if not _SCHEME.match(url):
        return Reason.SCHEME
    return Reason.USERINFO if _USERINFO.match(url) else Reason.MALFORMED


def _checked_host(host: str) -> str:
    """The host without brackets. Raises `EgressForbidden` where it could be read in two ways."""
    if host.startswith("["):
        if _literal(host[1:-1]) is None:
            raise EgressForbidden(Reason.MALFORMED)
        return host[1:-1]
    if not _NAME.fullmatch(host) or (_ENDS_IN_NUMBER.fullmatch(host) and _literal(host) is None):
        raise EgressForbidden(Reason.MALFORMED)
    return host


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _matches(host: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return host.endswith(pattern[1:])
    return pattern in ("*", host)


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _is_on_the_internet(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not _is_in(address, _NOT_GLOBAL)
