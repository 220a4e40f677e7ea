"""Connections that leave a server which is no master any more.

After a failover a connection may still lead to the old master, which answers, and refuses every write. Such a refusal
is raised as `NoMaster` and ends the connection: whoever tries again comes to the new master.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from redis.asyncio.sentinel import SentinelConnectionPool as AioSentinelConnectionPool
from redis.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import ConnectionError, ResponseError
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool, SentinelManagedConnection

from app.core.redis.group import RedisGroup

T = TypeVar("T")

#: How a server begins its refusal of what only a master with its replicas may do: it is a replica; it has lost its
#: master; a command that waited has been ended because it became a replica; too few replicas answer it.
NO_MASTER = {"READONLY", "MASTERDOWN", "UNBLOCKED", "NOREPLICAS"}


class NoMaster(ConnectionError):
    """The server is no master that takes writes; its own refusal is the cause. Nothing was written."""


class FollowingConnection(Connection):
    """TCP."""

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        return _read(self, super().read_response, arguments, options)


class FollowingSSLConnection(SSLConnection):
    """TCP with TLS."""

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        return _read(self, super().read_response, arguments, options)


class FollowingUnixConnection(UnixDomainSocketConnection):
    """A Unix socket."""

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        return _read(self, super().read_response, arguments, options)


class _AsksSentinels(SentinelManagedConnection):
    """One that was lost asks for the master before it sends again, and not only when it is taken from its pool."""

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if not self.is_connected:
            self.connect()  # type: ignore[no-untyped-call]
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]


class FollowingSentinelConnection(_AsksSentinels, FollowingConnection):
    """TCP to the master that Sentinels name."""


class FollowingSentinelSSLConnection(_AsksSentinels, FollowingSSLConnection):
    """TCP with TLS to the master that Sentinels name."""


#: By the transport of a `RedisUrl`.
CONNECTIONS: Mapping[str, type[FollowingConnection | FollowingSSLConnection | FollowingUnixConnection]] = {
    "redis": FollowingConnection,
    "rediss": FollowingSSLConnection,
    "unix": FollowingUnixConnection,
}
SENTINEL_CONNECTIONS: Mapping[str, type[AbstractConnection]] = {
    "redis": FollowingSentinelConnection,
    "rediss": FollowingSentinelSSLConnection,
}


def _read(connection: AbstractConnection, read: Callable[..., Any], arguments: Any, options: Any) -> Any:
    try:
        return read(*arguments, **options)
    except ResponseError as refusal:
        if (refusal.status_code or str(refusal).partition(" ")[0]) not in NO_MASTER:
            raise
        connection.disconnect()  # type: ignore[no-untyped-call]
        raise NoMaster(str(refusal)) from refusal


class Pool(ConnectionPool):
    """Connections to one address. None outlives a failure of another, which tells of all that lead to the same server.

    So a failover costs one request its answer, and not one for each idle connection.
    """

    def release(self, connection: Any) -> None:
        is_lost = not connection.is_connected
        super().release(connection)
        if is_lost:
            self.disconnect(inuse_connections=False)


class SentinelPool(SentinelConnectionPool, Pool):
    """Connections to the master that Sentinels name. `group` are the servers that they know."""

    group: RedisGroup


class AioSentinelPool(AioSentinelConnectionPool):
    """The same for asyncio; it closes its connections to the Sentinels with its own."""

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


class OnceMore(Retry):
    """Tries again, once and at once, after `NoMaster`: nothing was written, and the next connection is a new one."""

    def call_with_retry(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().call_with_retry(*arguments, **options)
        except NoMaster:
            return super().call_with_retry(*arguments, **options)
