"""What `/readyz` says of Redis: whether it takes jobs now and keeps them, each doubt in a line of its own.

docs/operations.md says what to do about each line.
"""

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from app.api.schemas.health import Check
from app.core import stored
from app.core.jobs.queue import ScoreQueue
from app.core.redis.connections import NoMaster
from app.core.redis.failure import explained
from app.core.redis.keys import PROBE_TTL_S, RedisKeys
from app.core.redis.replicas import n_alive
from app.core.redis.server import fault_of
from app.core.webhooks.outbox import Outbox

Info = Mapping[str, Any]

SECTIONS = ("server", "memory", "persistence", "replication")
#: Memory in use, as a share of what Redis may use, from which on its end is near.
NEARLY_FULL = 0.9

LOST_AT_A_CRASH = {
    "everysec": "once a second: what it accepted in the last two seconds is lost with its machine",
    "no": "when its system does: what it accepted in the last half minute is lost with its machine",
}


class RedisChecks:
    """Asks Redis. `outbox` is that of a service which sends webhooks, `fetches` is set for one that takes URLs.

    Blocking.
    """

    def __init__(
        self,
        redis: Redis,
        keys: RedisKeys,
        queue: ScoreQueue,
        outbox: Outbox | None = None,
        *,
        min_replicas: int = 0,
        fetches: bool = False,
    ) -> None:
        self.redis = redis
        self.keys = keys
        self.queue = queue
        self.outbox = outbox
        self.min_replicas = min_replicas
        self.fetches = fetches
        self._may_read_configuration = True

    def run(self) -> dict[str, Check]:
        """Every check by its name. All say the same where there is no server that can be used."""
        try:
            info = self._info()
            if fault := fault_of(info):
                return dict.fromkeys(NAMES, Check(status="failed", detail=fault))
            refused, more = self._refusal(), self._more()
        except RedisError as error:
            return dict.fromkeys(NAMES, Check(status="failed", detail=explained(error)))
        checks = {name: check({**info, **more}) for name, check in CHECKS.items()}
        return {"redis": refused or check_role(info), **checks}

    def _refusal(self) -> Check | None:
        """Why Redis refuses to write. One that is full, a replica, or has a broken disk goes on answering reads."""
        try:
            self.redis.set(self.keys.write_probe, "", ex=PROBE_TTL_S)
        except (ResponseError, NoMaster) as refusal:
            return Check(status="failed", detail=explained(refusal))
        return None

    def _info(self) -> Info:
        with self.redis.pipeline(transaction=False) as pipe:
            for section in SECTIONS:
                pipe.info(section)
            return dict(ChainMap(*pipe.execute()))

    def _more(self) -> Info:
        return {
            "min_replicas": self.min_replicas,
            "appendfsync": self._appendfsync(),
            "missing_layers": self._missing_layers(),
            "n_dispatchers": self.outbox.n_dispatchers() if self.outbox else None,
            "has_fetcher": bool(self.redis.exists(self.keys.fetcher)) if self.fetches else None,
        }

    def _missing_layers(self) -> Sequence[Sequence[str]]:
        """What each worker that is alive says of its decoder's sandbox; while there is none, what was said last."""
        key = self.keys.missing_sandbox_layers
        last = list(map(str, stored.json_value(key, stored.read(self.redis.get, key)) or []))
        alive = self.queue.workers().alive
        return [last if each.missing_layers is None else each.missing_layers for each in alive] if alive else [last]

    def _appendfsync(self) -> str | None:
        """How often the append-only file is synced; None where Redis's user may not know, which is asked only once."""
        if not self._may_read_configuration:
            return None
        try:
            return self.redis.config_get("appendfsync").get("appendfsync")
        except ResponseError:
            self._may_read_configuration = False
            return None


def check_role(info: Info) -> Check:
    """Redis took a write, and is a master: a replica that takes writes loses them."""
    if info.get("role", "master") != "master":
        return Check(status="failed", detail="Redis is a replica, which loses what is written to it.")
    return Check(status="ok", detail="Redis answers and takes writes.")


def check_version(info: Info) -> Check:
    """The server is one that this service can work with: another has failed before."""
    return Check(status="ok", detail=f"The server is compatible with Redis {info.get('redis_version')}.")


def check_memory(info: Info) -> Check:
    """Redis has memory left for jobs. What a full one refuses is another check's."""
    used, limit = info.get("used_memory", 0), info.get("maxmemory", 0)
    if not limit:
        return Check(status="ok", detail=f"Redis uses {used} bytes of memory; maxmemory sets no limit.")
    status = "ok" if used < NEARLY_FULL * limit else "warning"
    return Check(status=status, detail=f"Redis uses {used} bytes of memory and may use {limit} (maxmemory).")


def check_durability(info: Info) -> Check:
    """Redis writes an append-only file, its last write succeeded, and it syncs each."""
    if not info.get("aof_enabled"):
        return Check(status="warning", detail="Redis writes no append-only file: a crash loses accepted jobs.")
    if info.get("aof_last_write_status", "ok") != "ok":
        return Check(status="failed", detail="Redis cannot write its append-only file.")
    appendfsync = info["appendfsync"]
    if loss := LOST_AT_A_CRASH.get(appendfsync):
        return Check(status="warning", detail=f"appendfsync is {appendfsync}: Redis syncs its append-only file {loss}.")
    if not appendfsync:
        return Check(status="ok", detail="Redis writes an append-only file; how often it is synced cannot be read.")
    return Check(status="ok", detail="Redis writes an append-only file, and syncs each write.")


def check_replicas(info: Info) -> Check:
    """As many replicas follow as must have a job before it is accepted."""
    n, needed = n_alive(info), info["min_replicas"]
    status = "ok" if n >= needed else "failed"
    return Check(status=status, detail=f"{n} replicas follow; {needed} must (APEX_REDIS_MIN_REPLICAS).")


def check_eviction(info: Info) -> Check:
    """When Redis is full it refuses writes rather than dropping records."""
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return Check(status="ok", detail="A full Redis refuses new jobs and keeps accepted ones.")
    # Without a memory limit nothing is dropped yet; with one, accepted jobs would vanish without an error.
    status = "failed" if info.get("maxmemory") else "warning"
    return Check(status=status, detail=f"maxmemory-policy is {policy}: a full Redis drops accepted jobs.")


def check_sandbox(info: Info) -> Check:
    """The workers' decoder has every sandbox layer. No layer is relied upon alone, so a missing one is a warning."""
    lacking = [layers for layers in info["missing_layers"] if layers]
    if lacking:
        names = ", ".join(dict.fromkeys(name for layers in lacking for name in layers))
        n = len(info["missing_layers"])
        of = "" if len(lacking) == n else f" of {len(lacking)} of {n} workers"
        return Check(status="warning", detail=f"Sandbox layers that the decoder{of} lacks: {names}.")
    return Check(status="ok", detail="No worker's decoder lacks a sandbox layer.")


def check_webhooks(info: Info) -> Check:
    """Somebody sends webhooks, if any may be sent. Nothing is lost meanwhile, so it is a warning."""
    n = info["n_dispatchers"]
    if n is None:
        return Check(status="ok", detail="No host is allowed for webhooks (APEX_WEBHOOK_HOSTS).")
    if not n:
        return Check(status="warning", detail="No process sends webhooks: they wait until 'apex webhooks' runs.")
    return Check(status="ok", detail=f"Processes that send webhooks: {n}.")


def check_audio_urls(info: Info) -> Check:
    """Somebody fetches tracks by URL, if any may be fetched. Nothing is lost meanwhile, so it is a warning."""
    has_fetcher = info["has_fetcher"]
    if has_fetcher is None:
        return Check(status="ok", detail="No host is allowed for tracks by URL (APEX_AUDIO_URL_HOSTS).")
    if not has_fetcher:
        return Check(status="warning", detail="No process fetches tracks by URL: they wait until 'apex webhooks' runs.")
    return Check(status="ok", detail="Tracks by URL are fetched.")


CHECKS: Mapping[str, Callable[[Info], Check]] = {
    "redis_version": check_version,
    "memory": check_memory,
    "durability": check_durability,
    "replicas": check_replicas,
    "eviction": check_eviction,
    "decoder_sandbox": check_sandbox,
    "webhooks": check_webhooks,
    "audio_urls": check_audio_urls,
}
NAMES = ("redis", *CHECKS)
