"""The store of API keys that `apex keys` works on."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from app.api.auth.api_keys import MARK, KeyStore
from app.cli.serving.service_redis import NoRedis, service_redis
from app.core.callers import ANONYMOUS_TENANT
from app.core.created_index import PAGE_SIZE
from app.core.jobs.store import JobStore
from app.core.redis.replicas import NotReplicated, Replicas
from app.core.settings import ServiceSettings, load_settings


@contextmanager
def key_store() -> Iterator[KeyStore]:
    """The keys of the Redis that was named, else of the private Redis in the data folder."""
    settings = load_settings(ServiceSettings)
    keys = settings.redis_keys
    try:
        with service_redis(settings) as redis:
            replicas = Replicas(redis, keys, needed=settings.redis_min_replicas)
            yield KeyStore(redis, keys, mark=_mark(settings), replicas=replicas)
    except NotReplicated as error:
        raise NoRedis("it was done, but too few replicas of Redis confirmed it: do it again") from error


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
