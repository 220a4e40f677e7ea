"""The deployment: the Redis and the storage that belong together.

Both hold the same id, made by whoever starts first. Comparing them finds a folder that is not mounted, and two
deployments that meet by mistake: else jobs would fail for want of audio, and audio be deleted for want of jobs.
"""

import errno
import logging
import time
import uuid
from collections.abc import Callable
from typing import Any, cast

from redis import Redis
from redis.exceptions import RedisError

from app.core import stored
from app.core.jobs.store import JobStore
from app.core.lua.script import LuaScript
from app.core.misconfiguration import Misconfigured
from app.core.redis.client import text
from app.core.redis.failure import explained
from app.core.redis.keys import RedisKeys
from app.core.storage.protocol import Storage

log = logging.getLogger(__name__)

#: While all is well, the two are compared this often.
CHECK_EVERY_S = 60.0
#: A Redis that has lost its data is told the id again by every supervisor that runs, within a few seconds. A store that
#: is starting may not know its buckets for a moment.
REMEMBERED_WITHIN_S = 6.0
RETRY_S = 0.5
#: Unfinished jobs whose audio is looked for before a storage is marked.
SAMPLE = 10

#: What is wrong with a storage, by what the script returns.
FAULTS = {
    "unmarked": "it lacks the marker of this deployment, as a folder does that is not mounted",
    "foreign": "it is the storage of another deployment than Redis is of",
    "unknown": "it is the storage of a deployment that Redis does not know: another's, or Redis has lost its data",
    "empty": "it has none of the audio of the jobs that Redis has",
}
REMEDY = "put that right, or run 'apex storage adopt' if this Redis and this storage belong together from now on"


class NotOurStorage(OSError):
    """The storage is another deployment's, or none. `fault` is one of FAULTS."""

    def __init__(self, fault: str) -> None:
        super().__init__(FAULTS[fault])
        self.fault = fault


class Deployment:
    """Tells whether a storage is that of the deployment which Redis is of. Every method is blocking.

    wary : a Redis that an older version has filled has jobs and knows no storage. Then only a storage that has audio of
        those jobs is marked.
    """

    def __init__(self, redis: Redis, keys: RedisKeys, storage: Storage, *, wary: bool = False) -> None:
        self._redis = redis
        self._keys = keys
        self._storage = storage
        self._compare = LuaScript(redis, "core/lua/deployment.lua")
        self._wary = wary
        self._candidate = f"dep_{uuid.uuid4().hex}"
        self._known: str | None = None
        self._checked_at = float("-inf")

    def check(self) -> None:
        """Compare Redis and storage now. A storage of nobody's is marked, if Redis has seen no other.

        Raises `NotOurStorage`, and the `OSError` of a storage that cannot be read or marked.
        """
        try:
            marker = self._storage.marker()
            while (changed := self._step(marker)) != marker:
                marker = changed
        except BaseException:
            self._checked_at = float("-inf")  # a refusal is not kept
            raise
        self._known, self._checked_at = marker, time.monotonic()

    def check_if_older(self, than_s: float = CHECK_EVERY_S) -> None:
        """Compare them, unless they were found to be the same less than this ago. Raises as `check` does."""
        if time.monotonic() - self._checked_at >= than_s:
            self.check()

    def require(self, *steps: Callable[[], object]) -> None:
        """Compare them at a start. Raises `Misconfigured`, with a sentence that says what to do.

        steps : what must be possible with the storage, too
        That Redis or the storage does not answer is only logged: they are compared before the storage is used. From now
        on this is wary.
        """
        self._wary = True
        deadline = time.monotonic() + REMEMBERED_WITHIN_S
        while True:
            try:
                self.check()
                for step in steps:
                    step()
                return
            except RedisError as error:
                return log.warning("Redis and storage are not compared yet: %s", explained(error))
            except NotOurStorage as error:
                if error.fault != "unknown" or time.monotonic() > deadline:
                    raise Misconfigured(f"the storage {self._storage} is refused: {error}; {REMEDY}") from error
            except OSError as error:
                if error.errno == errno.EIO:
                    return log.warning("Redis and storage are not compared yet: %s", error)
                if error.errno != errno.ENODEV or time.monotonic() > deadline:
                    raise Misconfigured(f"the storage {self._storage} cannot be used: {error.strerror}") from error
            time.sleep(RETRY_S)

    def adopt(self) -> str:
        """Have Redis and storage be of one deployment, whatever they were; its id: the storage's if it has one.

        Else a new one: by Redis's own, the storage of before would be taken for right as well.
        """
        marker = self._storage.marker() or self._storage.create_marker(self._candidate)
        self._redis.hset(self._keys.deployment, mapping={"id": marker, "marked": "1"})
        return marker

    def _step(self, marker: str | None) -> str:
        """What the storage holds after one comparison: the same as before, unless it was marked meanwhile."""
        found, deployment_id = self._run(marker)
        if found == "same":
            return deployment_id
        if found == "mark":
            if self._wary:
                self._look_for_audio()
            return self._storage.create_marker(deployment_id)
        now = self._storage.marker()
        if now is None or now == marker:
            raise NotOurStorage(found)
        return now

    def _run(self, marker: str | None) -> tuple[str, str]:
        keys = [self._keys.deployment]
        answer: Any = self._compare(keys, marker=marker, known=self._known, candidate=self._candidate)
        return text(answer[0]), text(answer[1])

    def _look_for_audio(self) -> None:
        """Raise `NotOurStorage` where Redis has jobs, and the storage none of their audio."""
        ids = cast(list[bytes], stored.read(self._redis.zrange, self._keys.unfinished, 0, SAMPLE - 1) or [])
        jobs = [job for job in JobStore(self._redis, self._keys).get_many(map(text, ids)) if job and not job.source]
        if jobs and not any(self._storage.has(job.storage_key) for job in jobs):
            raise NotOurStorage("empty")
