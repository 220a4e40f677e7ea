"""Batches: jobs that are followed together. The record of a batch, its items in order, and the states of their jobs.

A batch expires with the last of its jobs. The script that creates a job also adds it to its batch, and those that move
a job from state to state keep the states by which the batch counts. Items are only appended, so the index of an item
never changes.
"""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

from redis import Redis

from app.core import stored
from app.core.created_index import CreatedIndex
from app.core.jobs.models import UNFINISHED_STATES
from app.core.json_types import Json
from app.core.lua.script import LuaScript
from app.core.problems import problem_object
from app.core.redis.client import redis_now_s, text
from app.core.redis.keys import RedisKeys
from app.core.webhooks.outbox import OUTBOX_LUA

#: The id of a job, or the problem of a track that got none, with the client's own name for it beside.
Item = str | Json
EXTERNAL_ID = "external_id"


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
        return not any(self.counts[state] for state in UNFINISHED_STATES)


FIELDS = stored.field_names(Batch)
#: Ids that each new batch looks at, at the oldest end of the list of its tenant's.
SWEPT = 4


def new_batch_id() -> str:
    """An unguessable id."""
    return f"bat_{uuid.uuid4().hex}"


class BatchStore:
    """Reads and writes batches. Every method is blocking."""

    def __init__(self, redis: Redis, keys: RedisKeys, *, result_ttl_s: int) -> None:
        self.redis = redis
        self.keys = keys
        self.result_ttl_s = result_ttl_s
        shared = [OUTBOX_LUA, "core/jobs/lua/shared/batch.lua"]
        self._reject = LuaScript(redis, *shared, "api/batches/lua/reject.lua")
        self._count = LuaScript(redis, *shared, "api/batches/lua/count.lua")
        self._seal = LuaScript(redis, *shared, "api/batches/lua/seal.lua")

    def create(self, batch: Batch) -> Batch:
        """Write and list a new record; the batch with its time, by Redis's clock. It expires unless a job is added."""
        batch = replace(batch, created_at=redis_now_s(self.redis))
        record = {field.name: json.dumps(getattr(batch, field.name)) for field in fields(Batch)}
        key = self.keys.batch(batch.tenant, batch.id)
        with self.redis.pipeline() as pipe:
            pipe.hset(key, mapping=cast(dict[Any, Any], record))
            pipe.expire(key, self.result_ttl_s)
            pipe.zadd(self.keys.batches(batch.tenant), {batch.id: batch.created_at})
            pipe.execute()
        self._sweep(batch.tenant)
        return batch

    def index(self, tenant: str) -> CreatedIndex:
        """The ids of a tenant's batches."""
        return CreatedIndex(self.redis, self.keys.batches(tenant))

    def get(self, tenant: str, batch_id: str) -> Batch | None:
        """A tenant's batch, None when it is unknown, another tenant's, or has expired. Raises `Unreadable`."""
        raw = cast(dict[bytes, bytes], stored.read(self.redis.hgetall, self.keys.batch(tenant, batch_id)))
        return stored.record_of(Batch, batch_id, raw, FIELDS) if raw else None

    def get_many(self, tenant: str, batch_ids: Iterable[str]) -> list[Batch]:
        """Those of a tenant's batches that are there and can be read, in one round trip."""
        keys = {batch_id: self.keys.batch(tenant, batch_id) for batch_id in batch_ids}
        with self.redis.pipeline(transaction=False) as pipe:
            for key in keys.values():
                pipe.hgetall(key)
            found = stored.read_all(pipe, list(keys.values()))
        return [batch for batch_id, raw in zip(keys, found, strict=True) if raw and (batch := _batch(batch_id, raw))]

    def filtered_fields(self, tenant: str, batch_ids: Iterable[str]) -> list[Json | None]:
        """What batches can be filtered by, in one round trip; None for one that has expired."""
        ids = list(batch_ids)
        records = [self.keys.batch(tenant, batch_id) for batch_id in ids]
        unfinished = [self.keys.batch_unfinished(tenant, batch_id) for batch_id in ids]
        with self.redis.pipeline(transaction=False) as pipe:
            for record in records:
                pipe.hmget(record, ("id", "external_id"))
            for members in unfinished:
                pipe.scard(members)
            found = stored.read_all(pipe, [*records, *unfinished])
        return [_filtered(*replies) for replies in zip(found[: len(ids)], found[len(ids) :], strict=True)]

    def unfinished(self, batch: Batch) -> list[str]:
        """The ids of its unfinished jobs."""
        found = stored.read(self.redis.smembers, self.keys.batch_unfinished(batch.tenant, batch.id)) or set()
        return sorted(map(text, cast(set[bytes], found)))

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
        return BatchStatus(**json.loads(self._count_in(batch, None)))

    def statuses(self, batches: Iterable[Batch]) -> list[BatchStatus]:
        """The same of several, in one round trip."""
        with self.redis.pipeline(transaction=False) as pipe:
            for batch in batches:
                self._count_in(batch, pipe)
            return [BatchStatus(**json.loads(found)) for found in pipe.execute()]

    def _count_in(self, batch: Batch, client: Redis | None) -> Any:
        keys, prefix = self.keys.of_batch(batch.tenant, batch.id), self.keys.record("")
        return self._count(keys, client=client, record_prefix=prefix, ttl_s=self.result_ttl_s)

    def _sweep(self, tenant: str) -> None:
        """Drop expired ids from the oldest end of the list: nothing is run when a record expires."""
        index = self.index(tenant)
        oldest = index.oldest(SWEPT)
        found = self.filtered_fields(tenant, oldest)
        index.forget(*(batch_id for batch_id, fields in zip(oldest, found, strict=True) if fields is None))


def _batch(batch_id: str, raw: Mapping[bytes, bytes]) -> Batch | None:
    try:
        return stored.record_of(Batch, batch_id, raw, FIELDS)
    except stored.Unreadable as error:
        stored.set_aside(batch_id, str(error))
        return None


def _filtered(record: Sequence[bytes | None] | None, n_unfinished: int | None) -> Json | None:
    if record is None or record[0] is None:
        return None
    return {"batch_external_id": stored.json_value("batch", record[1]), "done": not n_unfinished}


def _item(key: str, raw: bytes) -> Item:
    item = stored.json_value(key, raw)
    return item if isinstance(item, (str, dict)) else problem_object("internal_error", "The item cannot be read.")
