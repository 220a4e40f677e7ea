"""The Redis of a service, for commands that look after it: started for them where the service does not run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from app.cli.serving.embedded_redis import EmbeddedRedis, EmbeddedRedisError, running_url
from app.core.redis.client import connect
from app.core.redis.failure import explained
from app.core.redis.replicas import NotReplicated, Replicas
from app.core.redis.server import check
from app.core.settings import ServiceSettings
from model.domain import ApexError

TIMEOUT_S = 5.0


class NoRedis(ApexError):
    """The service's Redis cannot be reached; the text says which one was tried."""


@contextmanager
def service_redis(settings: ServiceSettings) -> Iterator[Redis]:
    """The Redis that was named, else the private one in the data folder.

    Raises `NoRedis`, and `UnusableRedis` for a server that the service itself would refuse.
    """
    try:
        with _named_or_private(settings) as url, connect(url, max_retries=1, timeout_s=TIMEOUT_S) as redis:
            check(redis.info("server"))
            yield redis
    except EmbeddedRedisError as error:
        raise NoRedis(f"the service's Redis cannot be reached: {error}") from error
    except RedisError as error:
        raise NoRedis(f"the service's Redis cannot be reached: {explained(error)}") from error


@contextmanager
def service_replicas(settings: ServiceSettings, *, remedy: str) -> Iterator[Replicas]:
    """The same Redis, for changes that outlive it. Raises `NoRedis` with the remedy if too few replicas confirm."""
    try:
        with service_redis(settings) as redis:
            yield Replicas(redis, settings.redis_keys, needed=settings.redis_min_replicas)
    except NotReplicated as error:
        raise NoRedis(f"it was done, but too few replicas of Redis confirmed it: {remedy}") from error


@contextmanager
def _named_or_private(settings: ServiceSettings) -> Iterator[str]:
    if "redis_url" in settings.model_fields_set:
        yield settings.redis_url
        return
    directory = settings.data_dir / "redis"
    if url := running_url(directory):
        yield url
        return
    with _started(directory) as redis:
        yield redis.url


@contextmanager
def _started(directory: Path) -> Iterator[EmbeddedRedis]:
    # The folder is not created here: what is written into a Redis that no service uses would be of no use.
    if not directory.is_dir():
        raise NoRedis(f"there is no service's Redis in {directory}: name its --data-dir, or a --redis-url")
    with EmbeddedRedis(directory) as redis:
        yield redis
