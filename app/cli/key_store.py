"""The store of API keys that `apex keys` works on: in a service's Redis, which is started where it does not run."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from redis.exceptions import RedisError

from app.api.auth.api_keys import MARK, KeyStore
from app.cli.embedded_redis import EmbeddedRedis, EmbeddedRedisError, running_url
from app.core.callers import ANONYMOUS_TENANT
from app.core.jobs.store import PAGE_SIZE, JobStore
from app.core.redis.failure import explained
from app.core.redis.replicas import NotReplicated, Replicas
from app.core.redis_client import connect
from app.core.settings import ServiceSettings, load_settings
from model.domain import ApexError

TIMEOUT_S = 5.0


class NoRedis(ApexError):
    """The Redis that holds the keys cannot be reached; the text says which one was tried."""


@contextmanager
def key_store() -> Iterator[KeyStore]:
    """The keys of the Redis that was named, else of the private Redis in the data folder."""
    settings = load_settings(ServiceSettings)
    try:
        with _named_or_private(settings) as url, connect(url, max_retries=1, timeout_s=TIMEOUT_S) as redis:
            keys = settings.redis_keys
            replicas = Replicas(redis, keys, needed=settings.redis_min_replicas)
            yield KeyStore(redis, keys, mark=_mark(settings), replicas=replicas)
    except NotReplicated as error:
        raise NoRedis("it was done, but too few replicas of Redis confirmed it: do it again") from error
    except EmbeddedRedisError as error:
        raise NoRedis(f"the keys cannot be reached: {error}") from error
    except RedisError as error:
        raise NoRedis(f"the keys cannot be reached: {explained(error)}") from error


def _mark(settings: ServiceSettings) -> Path | None:
    """Where the service remembers that there was a key; None where only its Redis is known."""
    names_folder = "redis_url" not in settings.model_fields_set or "data_dir" in settings.model_fields_set
    return settings.namespace_dir / MARK if names_folder and settings.data_dir.is_dir() else None


def count_anonymous_jobs(keys: KeyStore) -> int:
    """How many jobs there are that were made without a key."""
    jobs = JobStore(keys.redis, keys.keys)
    ids = (job_id for _, job_id in jobs.list_by_created(ANONYMOUS_TENANT))
    pages = iter(lambda: [*islice(ids, PAGE_SIZE)], [])
    return sum(state is not None for page in pages for state in jobs.states(page))


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
    # The folder is not created here: a key in a Redis that no service uses would be of no use.
    if not directory.is_dir():
        raise NoRedis(f"there is no service's Redis in {directory}: name its --data-dir, or a --redis-url")
    with EmbeddedRedis(directory) as redis:
        yield redis
