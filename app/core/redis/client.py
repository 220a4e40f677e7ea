"""Clients of Redis, and how often a command is tried again while Redis is away."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from redis import Redis
from redis import asyncio as aio
from redis.asyncio import sentinel as aio_sentinel
from redis.asyncio.retry import Retry as AioRetry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, TimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from app.core.redis.connections import CONNECTIONS, SENTINEL_CONNECTIONS, AioSentinelPool, OnceMore, Pool, SentinelPool
from app.core.redis.group import RedisGroup
from app.core.redis.url import RedisUrl

RETRIED = [ConnectionError, TimeoutError, BusyLoadingError]
CONNECT_TIMEOUT_S = 2.0
#: A server that is only asked something beside must not hold up what is asked for.
ASKED_TIMEOUT_S = 0.3
#: All Sentinels may have to be asked within the time of one command.
SENTINELS_PER_TIMEOUT = 3


def connect_for_notifications(url: str) -> aio.Redis:
    """A lazy client for one subscription. It does not retry: its reader decides when to connect again.

    Raises `BadRedisUrl`.
    """
    target = RedisUrl.parse(url)
    options = {"socket_connect_timeout": CONNECT_TIMEOUT_S, "retry": AioRetry(NoBackoff(), retries=0), **target.options}
    if not target.sentinels:
        return aio.Redis.from_pool(aio.ConnectionPool(connection_class=_AIO_CONNECTIONS[target.transport], **options))
    asked = _sentinel_options(target, CONNECT_TIMEOUT_S) | {"retry": AioRetry(NoBackoff(), retries=0)}
    sentinels = aio_sentinel.Sentinel(target.sentinels, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
    connection = _AIO_SENTINEL_CONNECTIONS[target.transport]
    pool = AioSentinelPool(  # type: ignore[no-untyped-call]
        target.master_name, sentinels, connection_class=connection, **options
    )
    return aio.Redis.from_pool(pool)


def connect(url: str, *, max_retries: int, timeout_s: float = 5.0) -> Redis:
    """A lazy client that tries each command up to `max_retries` times more while Redis is away.

    With 0 it still goes to the new master at once where it meets an old one. Repeating a command whose answer was lost
    is safe here: every write is a compare-and-set that knows its own repetition, or a unique enqueue.
    Raises `BadRedisUrl`.
    """
    target = RedisUrl.parse(url)
    options = {
        "retry": _retry(max_retries),
        "retry_on_error": RETRIED,
        "socket_connect_timeout": min(timeout_s, CONNECT_TIMEOUT_S),
        "socket_timeout": timeout_s,
        "health_check_interval": 15,
        **target.options,
    }
    if not target.sentinels:
        return Redis.from_pool(Pool(connection_class=CONNECTIONS[target.transport], **options))
    asked = _sentinel_options(target, timeout_s) | {"retry": Retry(NoBackoff(), retries=0)}
    sentinels = Sentinel(target.sentinels, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
    connection = SENTINEL_CONNECTIONS[target.transport]
    pool = SentinelPool(  # type: ignore[no-untyped-call]
        target.master_name, sentinels, connection_class=connection, **options
    )
    pool.group = RedisGroup(sentinels.sentinels, target.master_name, partial(_connect_to, target, timeout_s))
    return Redis.from_pool(pool)


def _connect_to(target: RedisUrl, timeout_s: float, address: tuple[str, int]) -> Redis:
    """A client of one server of a group, for the moment that a question may take."""
    host, port = address
    asked_s = min(timeout_s, ASKED_TIMEOUT_S)
    options = {**target.options, "host": host, "port": port, "retry": Retry(NoBackoff(), retries=0)}
    options |= {"socket_timeout": asked_s, "socket_connect_timeout": asked_s}
    return Redis.from_pool(Pool(connection_class=CONNECTIONS[target.transport], **options))


_AIO_CONNECTIONS: Mapping[str, type[aio.Connection | aio.UnixDomainSocketConnection]] = {
    "redis": aio.Connection,
    "rediss": aio.SSLConnection,
    "unix": aio.UnixDomainSocketConnection,
}
_AIO_SENTINEL_CONNECTIONS: Mapping[str, type[aio.Connection]] = {
    "redis": aio_sentinel.SentinelManagedConnection,
    "rediss": aio_sentinel.SentinelManagedSSLConnection,
}


def _retry(max_retries: int) -> Retry:
    backoff = ExponentialWithJitterBackoff(base=0.1, cap=3)
    return Retry(backoff, retries=max_retries) if max_retries else OnceMore(NoBackoff(), retries=0)


def _sentinel_options(target: RedisUrl, timeout_s: float) -> dict[str, Any]:
    each_s = timeout_s / SENTINELS_PER_TIMEOUT
    return {
        "ssl": target.transport == "rediss",
        "socket_timeout": each_s,
        "socket_connect_timeout": each_s,
        **target.sentinel_options,
    }


def epoch_s(seconds: int, microseconds: int) -> float:
    """Redis's answer to TIME as seconds since the epoch, to the millisecond as times are stored."""
    return round(seconds + microseconds / 1e6, 3)


def redis_now_s(redis: Redis) -> float:
    """Seconds since the epoch by Redis's clock, which all times of jobs are by. Blocking."""
    return epoch_s(*redis.time())


def text(value: bytes | str) -> str:
    """A reply of Redis as text; its client gives bytes or text by its own settings. What is no text is replaced."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
