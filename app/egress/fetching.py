"""The fetcher of a process, with the settings of its environment."""

import asyncio

from redis import Redis

from app.api.auth.rate_limits import Quotas
from app.api.ttl_cache import TtlCache
from app.api.uploads.receiver import UploadLimits
from app.core.deployment import Deployment
from app.core.jobs.opening import open_jobs
from app.core.redis.client import connect
from app.core.settings import ServiceSettings
from app.core.storage.opening import open_storage
from app.core.worker_info import WorkerInfo
from app.egress.client import guarded_client
from app.egress.download import Downloader
from app.egress.fetcher import FETCH_TIMES, Fetcher, FetchLimits, FetchTimes


def check_storage(settings: ServiceSettings) -> None:
    """Raise `Misconfigured` where tracks cannot be kept in the storage of the settings, or it is another service's."""
    storage = open_storage(settings)
    with connect(settings.redis_url, max_retries=0) as redis:
        Deployment(redis, settings.redis_keys, storage).require()


async def fetch_tracks(
    settings: ServiceSettings, redis: Redis, stop: asyncio.Event, times: FetchTimes = FETCH_TIMES
) -> None:
    """Fetch tracks until `stop`."""
    keys, storage, rules = settings.redis_keys, open_storage(settings), settings.audio_url_rules
    limits = UploadLimits(settings.max_upload_bytes, settings.upload_idle_timeout_s, settings.upload_timeout_s)
    idle_s, ca_file = settings.upload_idle_timeout_s, settings.egress_ca_file
    async with guarded_client(rules, timeout_s=idle_s, ca_file=ca_file) as client:
        fetcher = Fetcher(
            open_jobs(settings, redis),
            Downloader(client, rules, storage, limits),
            Deployment(redis, keys, storage),
            Quotas(redis, keys),
            TtlCache(WorkerInfo(redis, keys).model),
            FetchLimits(settings.max_fetches, settings.backlog_limits, settings.max_duration_s, times),
        )
        await fetcher.run(stop)
