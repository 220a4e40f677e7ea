"""Redis connections, and how often a command is tried again while Redis is away."""

from redis import Redis
from redis import asyncio as aio
from redis.asyncio.retry import Retry as AioRetry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, TimeoutError
from redis.retry import Retry

RETRIED = [ConnectionError, TimeoutError, BusyLoadingError]


def connect_for_notifications(url: str) -> aio.Redis:
    """A lazy client for one subscription. It does not retry: its reader decides when to connect again."""
    return aio.Redis.from_url(url, socket_connect_timeout=2.0, retry=AioRetry(NoBackoff(), retries=0))


def connect(url: str, *, max_retries: int, timeout_s: float = 5.0) -> Redis:
    """A lazy client that tries each command up to `max_retries` times more while Redis is away.

    Repeating a command whose answer was lost is safe here: every write is a compare-and-set that knows its own
    repetition, or a unique enqueue.
    """
    return Redis.from_url(
        url,
        retry=Retry(ExponentialWithJitterBackoff(base=0.1, cap=3), retries=max_retries),
        retry_on_error=RETRIED,
        socket_connect_timeout=min(timeout_s, 2.0),
        socket_timeout=timeout_s,
        health_check_interval=15,
    )


def epoch_s(seconds: int, microseconds: int) -> float:
    """Redis's answer to TIME as seconds since the epoch, to the millisecond as times are stored."""
    return round(seconds + microseconds / 1e6, 3)


def redis_now_s(redis: Redis) -> float:
    """Seconds since the epoch by Redis's clock, which all times of jobs are by. Blocking."""
    return epoch_s(*redis.time())


def text(value: bytes | str) -> str:
    """A reply of Redis as text; its client gives bytes or text by its own settings. What is no text is replaced."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
