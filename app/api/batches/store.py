"""Batches: jobs that are followed together. The record of a batch, its items in order, and the states of their jobs.

A batch expires with the last of its jobs; the script that creates a job also adds it to its batch.
Items are only appended, so the index of an item never changes.
"""

import json
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, cast

from redis import Redis

from app.core import redis_keys, stored
from app.core.jobs.models import now_s
from app.core.jobs.store import JobStore
from app.core.json_types import Json
from app.core.lua.script import LuaScript
from app.core.problems import problem_object
from app.core.redis_client import text

#: State of an item that got no job, and of one whose job has expired.
REJECTED, EXPIRED = "rejected", "expired"

#: The id of a job, or the problem of a file that got none.
Item = str | Json


@dataclass(frozen=True)
class Batch:
    """The record of a batch.

    `fingerprint` is of the request that made it, `idempotency` the Redis key of that request's stored response, which
    is deleted with the first job of the batch.
    """

    id: str
    tenant: str
    external_id: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    created_at: stored.EpochSeconds = field(default_factory=now_s)
    fingerprint: str | None = None
    idempotency: str | None = None

    @property
    def key(self) -> str:
        return redis_keys.batch(self.tenant, self.id)

    @property
    def items_key(self) -> str:
        return redis_keys.batch_items(self.tenant, self.id)


FIELD_NAMES = frozenset(f.name for f in fields(Batch))


def new_batch_id() -> str:
    """An unguessable id."""
    return f"bat_{uuid.uuid4().hex}"


class BatchStore:
    """Reads and writes batches. Every method is blocking."""

    def __init__(self, redis: Redis, jobs: JobStore, *, result_ttl_s: int) -> None:
        self.redis = redis
        self.jobs = jobs
        self.result_ttl_s = result_ttl_s
        self._reject = LuaScript(redis, "core/jobs/lua/batch.lua", "api/batches/lua/reject.lua")

    def create(self, batch: Batch) -> None:
        """Write a new record. It expires unless a job is added."""
        record = {name: json.dumps(getattr(batch, name)) for name in FIELD_NAMES}
        with self.redis.pipeline() as pipe:
            pipe.hset(batch.key, mapping=cast(dict[Any, Any], record))
            pipe.expire(batch.key, self.result_ttl_s)
            pipe.execute()

    def get(self, tenant: str, batch_id: str) -> Batch | None:
        """A tenant's batch, None when it is unknown, another tenant's, or has expired."""
        raw = cast(dict[bytes, bytes], stored.read(self.redis.hgetall, redis_keys.batch(tenant, batch_id)))
        return _batch(batch_id, raw) if raw else None

    def reject(self, batch: Batch, problem: Json) -> None:
        """Add an item that got no job."""
        keys = [batch.key, batch.items_key, redis_keys.batch_unfinished(batch.tenant, batch.id)]
        self._reject(keys, problem=json.dumps(problem), ttl_s=self.result_ttl_s)

    def items(self, batch: Batch) -> list[Item]:
        """All items in their order; a problem in place of one that cannot be read."""
        found = cast(list[bytes], stored.read(self.redis.lrange, batch.items_key, 0, -1) or [])
        return [_item(batch.items_key, raw) for raw in found]

    def states(self, items: Sequence[Item]) -> list[str]:
        """The state of each item's job, or `rejected` or `expired`."""
        states = iter(self.jobs.states([item for item in items if isinstance(item, str)]))
        return [next(states) or EXPIRED if isinstance(item, str) else REJECTED for item in items]


def _batch(batch_id: str, raw: dict[bytes, bytes]) -> Batch:
    """The batch of a record. Raises `Unreadable`."""
    members = [b'"%s":%s' % (name, value) for name, value in raw.items() if text(name) in FIELD_NAMES]
    return stored.parsed(Batch, batch_id, b"{%s}" % b",".join(members))


def _item(key: str, raw: bytes) -> Item:
    item = stored.json_value(key, raw)
    return item if isinstance(item, (str, dict)) else problem_object("internal_error", "The item cannot be read.")


def counts(states: Sequence[str]) -> dict[str, int]:
    """How many items there are of each state, and in total."""
    return {"total": len(states), **Counter(states)}
