"""Read job records: the public truth about each request. RQ transports ids; what clients read comes from
here.

`app.core.jobs.state_machine` makes and changes records.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from redis import Redis

from app.core import redis_keys
from app.core.jobs.models import Event, Job, JobState
from app.core.json_types import Json
from app.core.redis_client import text

#: Ids that `list_by_created` reads in one round trip.
PAGE_SIZE = 200


class JobStore:
    """Reads job records, one or many at a time, and lists those of a tenant. Every method is blocking."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    def get(self, job_id: str) -> Job | None:
        """The record, or None when it is unknown or has expired."""
        raw = self.redis.hgetall(redis_keys.record(job_id))
        return Job.from_fields(raw) if raw else None

    def get_many(self, job_ids: Iterable[str]) -> list[Job | None]:
        """The records of several ids in their order, in one round trip."""
        with self.redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(redis_keys.record(job_id))
            return [Job.from_fields(raw) if raw else None for raw in pipe.execute()]

    def states(self, job_ids: Iterable[str]) -> list[JobState | None]:
        """The states of several ids in their order, in one round trip; None for one that is unknown or has expired."""
        with self.redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hget(redis_keys.record(job_id), "status")
            return [JobState(json.loads(raw)) if raw else None for raw in pipe.execute()]

    def get_fields(self, job_ids: Iterable[str], names: Sequence[str]) -> list[Json | None]:
        """Some fields of several records in their order, None for a record that is not there; in one round trip."""
        with self.redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hmget(redis_keys.record(job_id), names)
            found = pipe.execute()
        values = ([json.loads(value) if value else None for value in record] for record in found)
        return [dict(zip(names, record, strict=True)) if any(record) else None for record in values]

    def expired_at(self, job_id: str, *, tenant: str) -> float | None:
        """When a job of this tenant went away, None when there never was one."""
        raw = self.redis.get(redis_keys.tombstone(job_id))
        tombstone = json.loads(raw) if raw else {}
        return cast(float, tombstone["expired_at"]) if tombstone.get("tenant") == tenant else None

    def list_by_created(
        self, tenant: str, *, newest: float = float("inf"), oldest: float = 0.0
    ) -> Iterator[tuple[float, str]]:
        """Creation time and id of a tenant's jobs between two times, newest first, read a page at a time.

        Of equal times the greater id comes first. Ids of expired records may be among them.
        """
        start = 0
        while found := self._page(tenant, newest, oldest, start):
            for job_id, created_at in found:
                yield created_at, text(job_id)
            # A page begins at the time where the one before ended, so jobs that come or go meanwhile shift no page.
            last = found[-1][1]
            start = (start if last == newest else 0) + sum(created_at == last for _, created_at in found)
            newest = last

    def forget_listed(self, tenant: str, *job_ids: str) -> None:
        """Drop ids whose records have expired from their tenant's list."""
        if job_ids:
            self.redis.zrem(redis_keys.by_created(tenant), *job_ids)

    def cached_result(self, *, tenant: str, sha256: str, model_version: str) -> Job | None:
        """A tenant's succeeded job of the same bytes and model, if there is one."""
        job_id = self.redis.get(redis_keys.cached_result(tenant, sha256, model_version))
        return self.get(text(job_id)) if job_id else None

    def events(self, job_id: str, *, after: str = "-") -> list[Event]:
        """What happened to a job since the event `after`, oldest first. Only the last few hundred are kept."""
        start = f"({after}" if after != "-" else "-"
        key = redis_keys.events(job_id)
        found = cast(list[tuple[bytes, dict[bytes, bytes]]], self.redis.xrange(key, start, "+"))
        return [Event(text(at), text(entry[b"event"]), json.loads(entry[b"data"])) for at, entry in found]

    def has_event(self, job_id: str, event_id: str) -> bool:
        """Whether an event is still kept."""
        return bool(self.redis.xrange(redis_keys.events(job_id), event_id, event_id))

    def _page(self, tenant: str, newest: float, oldest: float, start: int) -> list[tuple[bytes, float]]:
        key = redis_keys.by_created(tenant)
        found = self.redis.zrange(
            key, newest, oldest, desc=True, byscore=True, offset=start, num=PAGE_SIZE, withscores=True
        )
        return cast(list[tuple[bytes, float]], found)
