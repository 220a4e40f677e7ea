"""Take job ids from the queue, and nothing else.

Queue contents are untrusted: anybody who can write to Redis could otherwise have any function run by its name,
callbacks and webhooks called, or RQ crashed by a field that it cannot read. So nothing that RQ stores about a job is
read here.
"""

import re
from collections.abc import Callable
from typing import Any, cast

from redis import Redis
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus

from app.core.jobs.queue import STALE_RQ_STATE_TTL_S, TASK_NAME
from app.core.lua.script import LuaScript

JOB_ID = re.compile(rb"job_[0-9a-f]{32}")

Task = Callable[[str], None]


class JobIdQueue(Queue):  # type: ignore[misc]
    """Hands out job ids only. Anything else in the list is dropped."""

    #: The list of ids that wait for workers of this one's model: their turn came when one of another took them.
    model_queue_key = ""
    take_script: LuaScript

    @classmethod
    def lmove(cls, connection: Redis, queue_key: str, timeout: int | None) -> tuple[str, bytes] | None:
        """Take the next id; RQ leaves a copy in the intermediate list until the run has begun."""
        while (found := cls._take(connection, queue_key, timeout)) and not JOB_ID.fullmatch(found[1]):
            connection.lrem(cls.intermediate_key(queue_key), 0, found[1])  # type: ignore[arg-type]
        return found

    @classmethod
    def _take(cls, connection: Redis, queue_key: str, timeout: int | None) -> tuple[str, bytes] | None:
        waiting = cls.take_script([cls.model_queue_key, queue_key, cls.intermediate_key(queue_key)])
        found = (queue_key, waiting) if waiting is not None else super().lmove(connection, queue_key, timeout)
        return cast(tuple[str, bytes] | None, found)

    @staticmethod
    def intermediate_key(queue_key: str) -> str:
        return f"{queue_key}:intermediate"


def queue_class_for(model_queue_key: str, redis: Redis) -> type[JobIdQueue]:
    """A queue whose ids come from the list of one model first."""
    script = LuaScript(redis, "core/jobs/lua/take.lua")
    return type(JobIdQueue.__name__, (JobIdQueue,), {"model_queue_key": model_queue_key, "take_script": script})


def job_class_for(task: Task, *, queue_name: str, timeout_s: int) -> type[Job]:
    """A job class whose instances have an id and can do nothing but call `task` with it."""

    class ScoreJob(Job):  # type: ignore[misc]
        """Takes neither a function nor arguments, status, callbacks, limits or timeouts from Redis."""

        def refresh(self) -> None:
            # There is no hash of a job that a worker of another model has taken before.
            if self.connection.type(self.key) not in (b"hash", b"none"):
                raise NoSuchJobError(self.id)
            self.restore({})

        def restore(self, raw_data: dict[bytes, bytes]) -> None:  # noqa: ARG002
            self.origin, self.timeout = queue_name, timeout_s
            self.result_ttl, self.failure_ttl = 0, STALE_RQ_STATE_TTL_S
            self._func_name, self._instance, self._args, self._kwargs = TASK_NAME, None, (self.id,), dict[str, Any]()
            self._status = JobStatus.QUEUED

        @property
        def func(self) -> Task:
            return task

        def _fetch_status(self) -> Any:
            return self._status

    return ScoreJob
