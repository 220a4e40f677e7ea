"""Readiness: whether a track could be accepted now, and would not be lost afterwards.

Whether a worker runs is not checked: a track can be accepted without one.
"""

import asyncio
import time
from collections.abc import Callable
from contextvars import Context
from functools import partial

from anyio import CapacityLimiter, to_thread
from redis import Redis
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from app.api.schemas.health import Check
from app.core import stored
from app.core.json_types import Json
from app.core.problems import Problem
from app.core.redis_keys import RedisKeys
from app.core.storage.local import MIN_FREE_UPLOADS, AudioStorage

Checks = dict[str, Check]

#: A measurement is shown to everybody who asks within this time of its beginning.
FRESH_S = 1.0
#: Longer than Redis may take; a disk that hangs takes for ever.
TIMEOUT_S = 5.0
NO_ANSWER = Check(status="failed", detail=f"The checks did not end within {TIMEOUT_S:g} s.")

#: The key that a check of writes leaves goes away by itself.
PROBE_TTL_S = 60
#: Why Redis takes no writes, by its error. Any other is one that Redis names in its own log.
WRITE_REFUSALS = {OutOfMemoryError: ": its memory is full", ReadOnlyError: ": it is a read-only replica"}

STOPPING = Check(status="failed", detail="The server is stopping.")
REDIS_DOWN = Check(status="failed", detail="Redis does not answer.")


class Readiness:
    """The checks, measured at most once a second, however many ask. Belongs to one event loop.

    Each measurement writes a file and asks Redis, so without that limit anybody could keep the process busy.
    """

    def __init__(self, redis: Redis, keys: RedisKeys, storage: AudioStorage, *, max_upload_bytes: int) -> None:
        self._measure = partial(measure, redis, keys, storage, max_upload_bytes=max_upload_bytes)
        self._thread = CapacityLimiter(1)  # of its own: the others may all be waiting for Redis
        self._latest: asyncio.Task[Checks] | None = None
        self._begun_at = 0.0
        #: Set by a server that closes its port soon.
        self.stopping = False

    async def checks(self) -> Checks:
        """Every check by its name. All have failed when they take longer than TIMEOUT_S."""
        if self.stopping:
            return {"server": STOPPING}
        latest = self._latest
        if latest is None or (latest.done() and self._age_s() >= FRESH_S):
            latest = self._begin()
        if not latest.done():
            await asyncio.wait([latest], timeout=max(TIMEOUT_S - self._age_s(), 0.0))
        return latest.result() if latest.done() else dict.fromkeys(CHECKS, NO_ANSWER)

    def _begin(self) -> "asyncio.Task[Checks]":
        self._begun_at = time.monotonic()
        measuring = to_thread.run_sync(self._measure, limiter=self._thread)
        # In a context of its own: it is not part of the request that happens to begin it.
        self._latest = asyncio.create_task(measuring, name="readiness", context=Context())
        return self._latest

    def _age_s(self) -> float:
        return time.monotonic() - self._begun_at


def measure(redis: Redis, keys: RedisKeys, storage: AudioStorage, *, max_upload_bytes: int) -> Checks:
    """Every check by its name. A few commands to Redis and one small file. Blocking."""
    return {"storage": check_storage(storage, max_upload_bytes), **check_redis(redis, keys)}


def check_storage(storage: AudioStorage, max_upload_bytes: int) -> Check:
    """The storage can be written, and has room for an upload."""
    try:
        storage.check_writable()
        free, needed = storage.free_bytes(), MIN_FREE_UPLOADS * max_upload_bytes
    except (Problem, OSError):
        return Check(status="failed", detail="The storage directory cannot be written.")
    status = "ok" if free > needed else "failed"
    return Check(status=status, detail=f"{free} bytes are free; more than {needed} are needed.")


def check_redis(redis: Redis, keys: RedisKeys) -> Checks:
    """Redis is reachable, takes writes and is durable, and does not drop jobs; no worker lacks a sandbox layer."""
    try:
        refusal, info = _refusal(redis, keys), _info(redis, keys)
    except RedisError:
        return dict.fromkeys(("redis", *REDIS_CHECKS), REDIS_DOWN)
    checks = {name: check(info) for name, check in REDIS_CHECKS.items()}
    return {"redis": check_writes(refusal), **checks}


def _refusal(redis: Redis, keys: RedisKeys) -> ResponseError | None:
    """Why Redis refuses to write; None when it does not."""
    try:
        redis.set(keys.write_probe, "", ex=PROBE_TTL_S)
    except ResponseError as refusal:
        return refusal
    return None


def _info(redis: Redis, keys: RedisKeys) -> Json:
    with redis.pipeline(transaction=False) as pipeline:
        pipeline.info("persistence")
        pipeline.info("memory")
        pipeline.get(keys.missing_sandbox_layers)
        persistence, memory, raw = stored.read_all(pipeline, ["INFO", "INFO", keys.missing_sandbox_layers])
    missing = stored.json_value(keys.missing_sandbox_layers, raw)
    return {**persistence, **memory, "missing_sandbox_layers": list(map(str, missing or []))}


def check_writes(refusal: ResponseError | None) -> Check:
    """Redis takes writes. One that is full, a replica, or has a broken disk goes on answering reads."""
    if refusal is None:
        return Check(status="ok", detail="Redis answers and takes writes.")
    reason = next((reason for kind, reason in WRITE_REFUSALS.items() if isinstance(refusal, kind)), "")
    return Check(status="failed", detail=f"Redis takes no writes{reason}.")


def check_durability(info: Json) -> Check:
    """Redis writes an append-only file, and its last write succeeded."""
    if not info.get("aof_enabled"):
        return Check(status="warning", detail="Redis writes no append-only file: a crash loses accepted jobs.")
    if info.get("aof_last_write_status", "ok") != "ok":
        return Check(status="failed", detail="Redis cannot write its append-only file.")
    return Check(status="ok", detail="Redis writes an append-only file.")


def check_eviction(info: Json) -> Check:
    """When Redis is full it refuses writes rather than dropping records."""
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return Check(status="ok", detail="A full Redis refuses new jobs and keeps accepted ones.")
    # Without a memory limit nothing is dropped yet; with one, accepted jobs would vanish without an error.
    status = "failed" if info.get("maxmemory") else "warning"
    return Check(status=status, detail=f"maxmemory-policy is {policy}: a full Redis drops accepted jobs.")


def check_sandbox(info: Json) -> Check:
    """The workers' decoder has every sandbox layer. No layer is relied upon alone, so a missing one is a warning."""
    missing = info["missing_sandbox_layers"]
    if missing:
        return Check(status="warning", detail=f"Sandbox layers that the decoder lacks: {', '.join(missing)}.")
    return Check(status="ok", detail="No worker's decoder lacks a sandbox layer.")


REDIS_CHECKS: dict[str, Callable[[Json], Check]] = {
    "durability": check_durability,
    "eviction": check_eviction,
    "decoder_sandbox": check_sandbox,
}
CHECKS = ("storage", "redis", *REDIS_CHECKS)
