"""What a server must be for this service: Redis 7.2 or later, or Valkey, and no Cluster."""

import logging
import re
from collections.abc import Mapping
from typing import Any

from redis.exceptions import RedisError

from app.core.misconfiguration import Misconfigured
from app.core.redis.client import connect
from app.core.redis.failure import CLUSTER, NEEDED, explained, no_database

log = logging.getLogger(__name__)

#: ZRANK WITHSCORE, with which positions in the queue are read, is of this version.
MIN_VERSION = (7, 2)
TIMEOUT_S = 2.0

SENTINEL = "This is a Sentinel and no Redis: write redis+sentinel://HOST:PORT/NAME, with the name of its master."

Info = Mapping[str, Any]


class UnusableRedis(Misconfigured):
    """The server is not one that this service can work with; the text says why."""


def version_of(text: str) -> tuple[int, int]:
    """The first two numbers of a version; zeros for what is none. Valkey tells with which Redis it is compatible."""
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def fault_of(info: Info) -> str | None:
    """Why a server that says this of itself (INFO server) cannot be used; None when it can."""
    mode = info.get("redis_mode") or info.get("server_mode")
    if mode == "cluster":
        return CLUSTER
    if mode == "sentinel":
        return SENTINEL
    version = str(info.get("redis_version", ""))
    if version_of(version) < MIN_VERSION:
        return f"The server is Redis {version}: {NEEDED}."
    return None


def check(info: Info) -> None:
    """Raise `UnusableRedis` for a server that says this of itself and cannot be used."""
    if fault := fault_of(info):
        raise UnusableRedis(f"APEX_REDIS_URL: {fault}")


def check_at_start(url: str) -> None:
    """Raise `UnusableRedis` for a server that cannot be used. One that does not answer is waited for, and logged."""
    with connect(url, max_retries=0, timeout_s=TIMEOUT_S) as redis:
        try:
            check(redis.info("server"))
        except RedisError as error:
            if fault := no_database(error):
                raise UnusableRedis(f"APEX_REDIS_URL: {fault}") from error
            log.warning("Redis cannot be used yet, and is waited for: %s", explained(error))
