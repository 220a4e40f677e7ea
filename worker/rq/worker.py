"""The RQ worker: one process, one queue, one warm model.

It does not fork for a job, because a fork would reload the model and CUDA does not survive one. RQ takes ids from the
queue and nothing more: its retries, its maintenance and its remote commands are off, because only the record and the
reconciler decide what becomes of a job.
"""

import errno
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, TypeVar

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError, ResponseError
from rq import Queue
from rq.exceptions import StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker import SimpleWorker, WorkerStatus
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from app.core.lua.script import LuaScript
from app.core.signals import STOP_SIGNALS, hurry_signals
from app.core.stored import WRONG_TYPE, is_wrong_type, set_aside
from app.core.worker_info import Published, WorkerInfo
from worker.rq.job import job_class_for, queue_class_for
from worker.score_track import ScoreTrack

log = logging.getLogger(__name__)

T = TypeVar("T")

#: RQ blocks for this long in one dequeue (`worker_ttl - 15`), and sends a heartbeat in between.
DEQUEUE_S = 3
#: Between the heartbeats of a worker that pauses.
PAUSE_HEARTBEAT_S = 1.0
#: RQ sends three heartbeats for each job, however short it is.
MIN_HEARTBEAT_GAP_S = 1.0


class ScoringWorker(SimpleWorker):  # type: ignore[misc]
    """Listens to exactly one queue: only then does RQ copy an id to its intermediate list while it takes it."""

    #: RQ's maintenance would fail, or run again, jobs that its own state takes for lost.
    should_run_maintenance_tasks = False
    _next_heartbeat = float("-inf")

    def __init__(
        self,
        queue_name: str,
        *,
        connection: Redis,
        task: ScoreTrack,
        job_timeout_s: int,
        heartbeat_ttl_s: int,
        grace_s: float,
        published: Published | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            [queue_name],
            connection=connection,
            job_class=job_class_for(task, queue_name=queue_name, timeout_s=job_timeout_s),
            queue_class=queue_class_for(task.model_queue_key, connection),
            serializer=JSONSerializer,
            log_job_description=False,
            worker_ttl=DEQUEUE_S + 15,
            **options,
        )
        self.task = task
        self.info = WorkerInfo(connection, task.machine.keys)
        self.published = published
        self._set_aside = LuaScript(connection, "core/lua/set_aside.lua")
        self.heartbeat_ttl_s = heartbeat_ttl_s
        self.grace_s = grace_s

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:  # noqa: ARG002
        return self.heartbeat_ttl_s

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """As RQ does it, by this machine's clock; and by Redis's, once a second at most."""
        with self._past_wrong_types():
            super().heartbeat(timeout, pipeline=pipeline)
        if time.monotonic() < self._next_heartbeat:
            return
        self._next_heartbeat = time.monotonic() + MIN_HEARTBEAT_GAP_S
        keys = [self.key, self.redis_workers_keys, *(WORKERS_BY_QUEUE_KEY % name for name in self.queue_names())]
        fields = {name: str(value or "") for name, value in self.serialize().items()}
        fields["state"] = _name(self.get_state())
        if self.published:
            fields |= self.published.worker_fields()
        self.info.heartbeat(keys, rq_fields=fields, ttl_s=self.worker_ttl + 60, info=self.published)

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """As RQ does it, but for the time in its hash of the job, which nobody reads.

        That would bring back the hash of a job whose run has just ended. RQ deletes it then, unless it has repeated the
        command because an answer was lost.
        """
        with self.connection.pipeline() as pipe:
            self.heartbeat(pipeline=pipe)
            execution.heartbeat(job.started_job_registry, self.get_heartbeat_ttl(job), pipeline=pipe)
            pipe.execute()

    def register_death(self) -> None:
        with self._past_wrong_types():
            super().register_death()

    def subscribe(self) -> None:
        """Do not listen for remote commands: nothing here sends them."""

    unsubscribe = subscribe

    def request_stop(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Take no further job; give the run in progress a grace period, after which it requeues its job.

        A signal that hurries the stop ends that period.
        """
        for number in STOP_SIGNALS:
            signal.signal(number, self._hurry if number in hurry_signals() else signal.SIG_IGN)
        self._stop_requested = True
        self.task.set_drain_deadline(self.grace_s)
        if self.get_state() != WorkerStatus.BUSY:
            raise StopRequested

    def _hurry(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.task.set_drain_deadline(0.0)

    def check_for_suspension(self, burst: bool) -> None:
        """Take no job while this machine is at fault. RQ calls this before each job."""
        super().check_for_suspension(burst)
        self.task.pause.begin_if_ill()
        if not self.task.pause.active:
            return
        self.set_state(WorkerStatus.SUSPENDED)
        while self.task.pause.active:
            self.heartbeat()
            time.sleep(min(self.task.pause.remaining_s, PAUSE_HEARTBEAT_S))
            self.task.pause.end_if_well()

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """As RQ does it; once more after a key of the wrong type."""
        step = partial(super().dequeue_job_and_maintain_ttl, timeout, max_idle_time)
        return self._again_past_wrong_types(step)  # type: ignore[no-any-return]

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run one job in this process, sending heartbeats while it runs; none when that is not to be had.

        What RQ cannot note of it does not matter: the record has what came of it, or the reconciler queues it again.
        """
        with self._past_wrong_types():
            execution = self._again_past_wrong_types(partial(self.prepare_execution, job))
            try:
                with self._heartbeat(job, execution):
                    self.perform_job(job, queue, execution)
            except OSError as fault:  # the run has not begun: the reconciler queues the job again
                self.task.pause.begin(fault)
            self.set_state(WorkerStatus.IDLE)

    def _again_past_wrong_types(self, step: Callable[[], T]) -> T:
        with self._past_wrong_types():
            return step()
        return step()

    @contextmanager
    def _past_wrong_types(self) -> Iterator[None]:
        """End a step of RQ that meets a key of the wrong type, which is set aside. RQ would end the worker."""
        try:
            yield
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            types = {self.key: "hash", **self.task.machine.queue.shared_types()}
            self._set_aside(list(types), types=list(types.values()))
            set_aside("a key of RQ", WRONG_TYPE)

    @contextmanager
    def _heartbeat(self, job: Job, execution: Execution) -> Iterator[None]:
        over = threading.Event()
        thread = threading.Thread(
            target=self._send_heartbeats, args=(job, execution, over), name="heartbeat", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, "no thread for the heartbeat") from error
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _send_heartbeats(self, job: Job, execution: Execution, over: threading.Event) -> None:
        while not over.wait(self.heartbeat_ttl_s / 4):
            try:
                self.task.renew()
                self.maintain_heartbeats(job, execution)
            except RedisError as error:
                log.warning("heartbeat not sent: %s", error)


def _name(state: str) -> str:
    """A worker's state as RQ stores it, which is not what `str` makes of one."""
    return state.value if isinstance(state, WorkerStatus) else state
