"""Readiness: whether a track could be accepted now, and would not be lost afterwards.

Whether a worker runs is not checked: a track can be accepted without one.
"""

import asyncio
import math
from functools import partial

from anyio import CapacityLimiter
from redis.exceptions import RedisError

from app.api.redis_checks import NAMES as REDIS_CHECKS
from app.api.redis_checks import RedisChecks
from app.api.schemas.health import Check
from app.api.ttl_cache import TtlCache
from app.core.deployment import Deployment, NotOurStorage
from app.core.problems import Problem
from app.core.redis.failure import explained
from app.core.storage.folder import MIN_FREE_UPLOADS
from app.core.storage.protocol import Storage

Checks = dict[str, Check]

#: A measurement is shown to everybody who asks within this time of its beginning.
FRESH_S = 1.0
#: Longer than Redis may take; a disk that hangs takes for ever.
TIMEOUT_S = 5.0
NO_ANSWER = Check(status="failed", detail=f"The checks did not end within {TIMEOUT_S:g} s.")

STOPPING = Check(status="failed", detail="The server is stopping.")


class Readiness:
    """The checks, measured at most once a second, however many ask. Belongs to one event loop.

    Each measurement writes a file and asks Redis, so without that limit anybody could keep the process busy.
    """

    def __init__(self, redis: RedisChecks, storage: Storage, deployment: Deployment, *, max_upload_bytes: int) -> None:
        read = partial(measure, redis, storage, deployment, max_upload_bytes=max_upload_bytes)
        self.latest = TtlCache(read, ttl_s=FRESH_S)
        self._thread = CapacityLimiter(1)  # of its own: the others may all be waiting for Redis
        #: Set by a server that closes its port soon.
        self.stopping = False

    async def checks(self) -> Checks:
        """Every check by its name. All have failed when they take longer than TIMEOUT_S."""
        if self.stopping:
            return {"server": STOPPING}
        try:
            return await asyncio.wait_for(self.latest.get_async(self._thread), TIMEOUT_S)
        except TimeoutError:
            return dict.fromkeys(CHECKS, NO_ANSWER)


def measure(redis: RedisChecks, storage: Storage, deployment: Deployment, *, max_upload_bytes: int) -> Checks:
    """Every check by its name. A few commands to Redis and one small file. Blocking."""
    return {
        "storage": check_storage(storage, max_upload_bytes),
        "deployment": check_deployment(deployment),
        **redis.run(),
    }


def check_storage(storage: Storage, max_upload_bytes: int) -> Check:
    """The storage can be written, and has room for an upload."""
    try:
        storage.check_writable()
        free, needed = storage.free_bytes(), MIN_FREE_UPLOADS * max_upload_bytes
    except (Problem, OSError):
        return Check(status="failed", detail="The storage cannot be written.")
    if math.isinf(free):
        return Check(status="ok", detail="The storage takes writes.")
    status = "ok" if free > needed else "failed"
    return Check(status=status, detail=f"{free} bytes are free; more than {needed} are needed.")


def check_deployment(deployment: Deployment) -> Check:
    """Storage and Redis are of one deployment."""
    try:
        deployment.check()
    except NotOurStorage as error:
        return Check(status="failed", detail=f"The storage is not used: {error}.")
    except OSError:
        return Check(status="failed", detail="The marker of the storage cannot be read.")
    except RedisError as error:
        return Check(status="failed", detail=explained(error))
    return Check(status="ok", detail="Storage and Redis are of one deployment.")


CHECKS = ("storage", "deployment", *REDIS_CHECKS)
