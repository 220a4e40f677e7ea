"""Readiness: whether a track could be accepted now, and whether its acceptance could be trusted.

Whether a worker runs is not asked: a track can be accepted without one.
"""

import json
from collections.abc import Callable

from redis import Redis
from redis.exceptions import RedisError

from app.api.schemas.health import Check
from app.core import redis_keys
from app.core.json_types import Json
from app.core.problems import Problem
from app.core.storage.local import MIN_FREE_UPLOADS, AudioStorage

REDIS_AWAY = Check(status="failed", detail="Redis does not answer.")


def readiness(redis: Redis, storage: AudioStorage, *, max_upload_bytes: int) -> dict[str, Check]:
    """Every check by its name. One round trip to Redis and one small file. Blocking."""
    return {"storage": check_storage(storage, max_upload_bytes), **check_redis(redis)}


def check_storage(storage: AudioStorage, max_upload_bytes: int) -> Check:
    """Writable, with room for what an upload may need."""
    try:
        storage.check_writable()
        free, needed = storage.free_bytes(), MIN_FREE_UPLOADS * max_upload_bytes
    except (Problem, OSError):
        return Check(status="failed", detail="The storage directory cannot be written.")
    status = "ok" if free > needed else "failed"
    return Check(status=status, detail=f"{free} bytes are free; more than {needed} are needed.")


def check_redis(redis: Redis) -> dict[str, Check]:
    """Reachable, durable, and not about to drop jobs."""
    try:
        info = _info(redis)
    except RedisError:
        return dict.fromkeys(("redis", *REDIS_CHECKS), REDIS_AWAY)
    checks = {name: check(info) for name, check in REDIS_CHECKS.items()}
    return {"redis": Check(status="ok", detail="Redis answers."), **checks}


def _info(redis: Redis) -> Json:
    with redis.pipeline(transaction=False) as pipeline:
        pipeline.info("persistence")
        pipeline.info("memory")
        pipeline.get(redis_keys.MISSING_SANDBOX_LAYERS)
        persistence, memory, missing = pipeline.execute()
    return {**persistence, **memory, "missing_walls": json.loads(missing or "[]")}


def check_durability(info: Json) -> Check:
    """An append-only file, and the last write to it went well."""
    if not info.get("aof_enabled"):
        return Check(status="warning", detail="Redis writes no append-only file: a crash loses accepted jobs.")
    if info.get("aof_last_write_status", "ok") != "ok":
        return Check(status="failed", detail="Redis cannot write its append-only file.")
    return Check(status="ok", detail="Redis writes an append-only file.")


def check_eviction(info: Json) -> Check:
    """A full Redis refuses writes rather than dropping records."""
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return Check(status="ok", detail="A full Redis refuses new jobs and keeps accepted ones.")
    # Without a memory limit nothing is dropped yet; with one, accepted jobs vanish in silence.
    status = "failed" if info.get("maxmemory") else "warning"
    return Check(status=status, detail=f"maxmemory-policy is {policy}: a full Redis drops accepted jobs.")


def check_sandbox(info: Json) -> Check:
    """The workers' decoder is behind all walls; none is relied upon alone, so a missing one is no reason to stop."""
    missing = info["missing_walls"]
    if missing:
        return Check(status="warning", detail=f"Walls that the decoder lacks: {', '.join(missing)}.")
    return Check(status="ok", detail="No worker misses a wall around its decoder.")


REDIS_CHECKS: dict[str, Callable[[Json], Check]] = {
    "durability": check_durability,
    "eviction": check_eviction,
    "decoder_sandbox": check_sandbox,
}
