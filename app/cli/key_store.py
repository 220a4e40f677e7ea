"""The store of API keys that `apex keys` works on."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from app.api.auth.api_keys import MARK, KeyStore
from app.cli.serving.service_redis import service_replicas
from app.core.callers import ANONYMOUS_TENANT
from app.core.created_index import PAGE_SIZE
from app.core.jobs.store import JobStore
from app.core.settings import ServiceSettings, load_settings


@contextmanager
def key_store() -> Iterator[KeyStore]:
    """The keys of the Redis that was named, else of the private Redis in the data folder."""
    settings = load_settings(ServiceSettings)
    with service_replicas(settings, remedy="do it again") as replicas:
        yield KeyStore(replicas.redis, replicas.keys, mark=_mark(settings), replicas=replicas)


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
