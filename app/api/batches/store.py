"""Batches: jobs that are followed together. The record of a batch, its items in order, and the states of their jobs.

A batch expires with the last of its jobs. The script that creates a job also adds it to its batch, and those that move
a job from state to state keep the states by which the batch counts. Items are only appended, so the index of an item
never changes.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

from redis import Redis

from app.core import stored
from app.core.jobs.models import JobState
from app.core.json_types import Json
from app.core.lua.script import LuaScript
from app.core.problems import problem_object
from app.core.redis.client import redis_now_s
from app.core.redis.keys import RedisKeys
from app.core.webhooks.outbox import OUTBOX_LUA

#: The id of a job, or the problem of a file that got none.
Item = str | Json


@dataclass(frozen=True)
class Batch:
    """The record of a batch.

    `fingerprint` is of the request that made it, `idempotency` the Redis key of that request's stored response, which
    is deleted with the first job of the batch. `webhook_url` is told of the `webhook_events`.
    """

    id: str
    tenant: str
    external_id: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    created_at: stored.EpochSeconds = 0.0
    fingerprint: str | None = None
    idempotency: str | None = None
    request_id: str | None = None
    webhook_url: str | None = None
    webhook_events: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class BatchStatus:
    """How many items there are of each state, of `rejected` and `expired` ones, and in `total`.

    `last_open` is the id of the last job that waits, or else of the last one that runs.
    """

    counts: Mapping[str, int]
    last_open: str | None = None

    @property
    def done(self) -> bool:
        return not any(self.counts[state] for state in OPEN_STATES)


OPEN_STATES = (JobState.QUEUED, JobState.RUNNING)
FIELDS = stored.field_names(Batch)


def new_batch_id() -> str:
    """An unguessable id."""
    return f"bat_{uuid.uuid4().hex}"


class BatchStore:
    """Reads and writes batches. Every method is blocking."""

    def __init__(self, redis: Redis, keys: RedisKeys, *, result_ttl_s: int) -> None:
        self.redis = redis
        self.keys = keys
        self.result_ttl_s = result_ttl_s
        shared = [OUTBOX_LUA, "core/jobs/lua/batch.lua"]
        self._reject = LuaScript(redis, *shared, "api/batches/lua/reject.lua")
        self._count = LuaScript(redis, *shared, "api/batches/lua/count.lua")
        self._seal = LuaScript(redis, *shared, "api/batches/lua/seal.lua")

    def create(self, batch: Batch) -> Batch:
        """Write a new record; the batch with its time, by Redis's clock. It expires unless a job is added."""
        batch = replace(batch, created_at=redis_now_s(self.redis))
        record = {field.name: json.dumps(getattr(batch, field.name)) for field in fields(Batch)}
        key = self.keys.batch(batch.tenant, batch.id)
        with self.redis.pipeline() as pipe:
            pipe.hset(key, mapping=cast(dict[Any, Any], record))
            pipe.expire(key, self.result_ttl_s)
            pipe.execute()
        return batch

    def get(self, tenant: str, batch_id: str) -> Batch | None:
        """A tenant's batch, None when it is unknown, another tenant's, or has expired. Raises `Unreadable`."""
        raw = cast(dict[bytes, bytes], stored.read(self.redis.hgetall, self.keys.batch(tenant, batch_id)))
        return stored.record_of(Batch, batch_id, raw, FIELDS) if raw else None

    def reject(self, batch: Batch, problem: Json) -> None:
        """Add an item that got no job."""
        self._reject(self.keys.of_batch(batch.tenant, batch.id), problem=json.dumps(problem), ttl_s=self.result_ttl_s)

    def seal(self, batch: Batch, *, client: Redis | None = None) -> None:
        """Note that the request which made a batch was carried out: from now on its end can be told."""
        keys = self.keys.of_batch(batch.tenant, batch.id)
        self._seal(keys, client=client, webhooks=self.keys.webhooks, ttl_s=self.result_ttl_s)

    def n_items(self, batch: Batch, *, client: Redis | None = None) -> int:
        """How many items there are."""
        return stored.read((client or self.redis).llen, self.keys.batch_items(batch.tenant, batch.id)) or 0

    def items(self, batch: Batch, start: int = 0, end: int | None = None) -> list[Item]:
        """The items from one index to before another, in their order; a problem in place of one that cannot be read."""
        last = -1 if end is None else end - 1
        key = self.keys.batch_items(batch.tenant, batch.id)
        found = cast(list[bytes], stored.read(self.redis.lrange, key, start, last) or [])
        return [_item(key, raw) for raw in found]

    def status(self, batch: Batch) -> BatchStatus:
        """What its items have come to. Costs the same for any number of items.

        The first look at a batch that an older version had its hands in reads the record of each job.
        """
        keys, prefix = self.keys.of_batch(batch.tenant, batch.id), self.keys.record("")
        found = self._count(keys, record_prefix=prefix, ttl_s=self.result_ttl_s)
        return BatchStatus(**json.loads(found))


def _item(key: str, raw: bytes) -> Item:
    item = stored.json_value(key, raw)
    return item if isinstance(item, (str, dict)) else problem_object("internal_error", "The item cannot be read.")
