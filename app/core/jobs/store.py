"""Read job records: the public truth about each request. RQ transports ids; what clients read comes from
here.

`app.core.jobs.state_machine` makes and changes records.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from redis import Redis
from redis.exceptions import ResponseError

from app.core import stored
from app.core.created_index import CreatedIndex
from app.core.jobs.models import Event, Job, JobState
from app.core.json_types import Json
from app.core.redis.client import text
from app.core.redis.keys import RedisKeys


@dataclass(frozen=True)
class Tombstone:
    """What stays of a job that went away."""

    tenant: str
    expired_at: stored.EpochSeconds


class JobStore:
    """Reads job records, one or many at a time, and lists those of a tenant. Every method is blocking."""

    def __init__(self, redis: Redis, keys: RedisKeys) -> None:
        self.redis = redis
        self.keys = keys

    def get(self, job_id: str) -> Job | None:
        """The record, or None when it is unknown or has expired. Raises `Unreadable` for one that cannot be read."""
        try:
            raw = self.redis.hgetall(self.keys.record(job_id))
        except ResponseError as error:
            if stored.is_wrong_type(error):
                raise stored.Unreadable(f"{job_id}: its record is no hash") from None
            raise
        return Job.from_fields(raw) if raw else None

    def get_many(self, job_ids: Iterable[str]) -> list[Job | None]:
        """The records of several ids in their order, in one round trip; None also for one that cannot be read."""
        job_ids = list(job_ids)
        keys = [self.keys.record(job_id) for job_id in job_ids]
        with self.redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            found = stored.read_all(pipe, keys)
        return [_job_or_none(job_id, raw) for job_id, raw in zip(job_ids, found, strict=True)]

    def states(self, job_ids: Iterable[str]) -> list[JobState | None]:
        """The states of several ids in their order, in one round trip; None for one that is unknown or has expired."""
        found = self.get_fields(job_ids, ["status"])
        return [_state(record["status"]) if record else None for record in found]

    def get_fields(self, job_ids: Iterable[str], names: Sequence[str]) -> list[Json | None]:
        """Some fields of several records in their order, in one round trip.

        None stands for a record that is not there, and for a field that is absent or cannot be read.
        """
        keys = [self.keys.record(job_id) for job_id in job_ids]
        with self.redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hmget(key, names)
            found = stored.read_all(pipe, keys)
        return [_named(key, names, values) for key, values in zip(keys, found, strict=True)]

    def expired_at(self, job_id: str, *, tenant: str) -> float | None:
        """When a job of this tenant went away, None when there never was one."""
        key = self.keys.tombstone(job_id)
        raw = stored.read(self.redis.get, key)
        tombstone = stored.value_of(Tombstone, key, raw) if raw else None
        return tombstone.expired_at if tombstone and tombstone.tenant == tenant else None

    def list_by_created(
        self, tenant: str, *, newest: float = float("inf"), oldest: float = 0.0
    ) -> Iterator[tuple[float, str]]:
        """Creation time and id of a tenant's jobs between two times, newest first, read a page at a time.

        Of equal times the greater id comes first. Ids of expired records may be among them.
        """
        return CreatedIndex(self.redis, self.keys.by_created(tenant)).newest_first(newest=newest, oldest=oldest)

    def cached_result(self, *, tenant: str, sha256: str, model_version: str) -> Job | None:
        """A tenant's succeeded job of the same bytes and model, if there is one."""
        job_id = stored.read(self.redis.get, self.keys.cached_result(tenant, sha256, model_version))
        job = self.get_many([text(job_id)])[0] if job_id else None
        return job if job and job.status is JobState.SUCCEEDED and job.tenant == tenant else None

    def embedding(self, job_id: str) -> Json | None:
        """What is kept of the embedding of a job's track, None where there is none."""
        key = self.keys.embedding(job_id)
        found = stored.json_value(key, stored.read(self.redis.get, key))
        return found if isinstance(found, dict) else None

    def events(self, job_id: str, *, after: str = "-") -> list[Event]:
        """What happened to a job since the event `after`, oldest first. Only the last few hundred are kept."""
        start = f"({after}" if after != "-" else "-"
        key = self.keys.events(job_id)
        found = cast(list[tuple[bytes, dict[bytes, bytes]]], stored.read(self.redis.xrange, key, start, "+") or [])
        return [event for at, entry in found if (event := _event(key, text(at), entry))]

    def has_event(self, job_id: str, event_id: str) -> bool:
        """Whether an event is still kept."""
        return bool(stored.read(self.redis.xrange, self.keys.events(job_id), event_id, event_id))


def _job_or_none(job_id: str, raw: dict[bytes | str, bytes | str] | None) -> Job | None:
    try:
        return Job.from_fields(raw) if raw else None
    except stored.Unreadable as error:
        stored.set_aside(job_id, str(error))
        return None


def _state(value: object) -> JobState | None:
    return next((state for state in JobState if state == value), None)


def _named(key: str, names: Sequence[str], values: Sequence[bytes | None] | None) -> Json | None:
    if values is None:
        return dict.fromkeys(names)
    if not any(values):
        return None
    return {name: stored.json_value(key, value) for name, value in zip(names, values, strict=True)}


def _event(key: str, at: str, entry: Mapping[bytes, bytes]) -> Event | None:
    name, data = entry.get(b"event", b""), stored.json_value(key, entry.get(b"data"))
    return Event(at, text(name), data) if name and isinstance(data, dict) else None
