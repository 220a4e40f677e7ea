"""Moves test jobs to their end, in a thread of each process of the front end.

What is unfinished is known from Redis alone, and each step is one compare-and-set of the state machine. So a test job
ends although the process that took it does not live that long, and several runners do each other no harm.
"""

import logging
import math
import threading
from collections.abc import Iterator
from typing import Any, cast

from redis.exceptions import RedisError

from app.api.test_mode.outcomes import (
    TEST_MODEL,
    Outcome,
    made_up_embedding,
    made_up_scores,
    made_up_segments,
    outcome_of,
)
from app.core import stored
from app.core.callers import ANONYMOUS_TENANT, data_owner
from app.core.jobs.models import Job, JobState, Overdue, RunSignal
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.unfinished import slices
from app.core.json_types import Json
from app.core.logging import logged_as
from app.core.problems import PROBLEMS, problem_object
from app.core.redis.client import redis_now_s, text
from app.core.redis.failure import brief
from app.core.redis.keys import indexes
from app.core.redis.replicas import NotReplicated
from model.domain import SCORE_RANGES, SEGMENT_S

log = logging.getLogger(__name__)

#: How often test jobs of other processes are looked for, and how often one that runs tells its progress.
IDLE_S, PROGRESS_S = 3.0, 1.0
#: No run of a test job is lost, so its lease decides nothing.
LEASE_S = 60.0
#: Whose id stands for all test data, where a job has no record that names its tenant.
SOME_TEST_DATA = data_owner(ANONYMOUS_TENANT, livemode=False)


class JobSimulator:
    """`start()` begins the thread, `stop()` ends it; `wake()` says that there is a new test job."""

    def __init__(self, machine: JobStateMachine) -> None:
        self.machine = machine
        self._index = indexes(machine.keys, livemode=False).unfinished
        self._wake = threading.Event()
        self._stopped = False
        self._fails = False
        self._thread = threading.Thread(target=self._run_forever, name="test jobs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Blocking, for no longer than a command to Redis."""
        self._stopped = True
        self._wake.set()
        self._thread.join()

    def wake(self) -> None:
        """Have the thread look for test jobs now."""
        self._wake.set()

    def run_due(self) -> float:
        """Take every unfinished test job as far as it should be by now; the seconds until there is more to do."""
        ids = [text(job_id) for job_id in cast(list[bytes], stored.read(self.machine.redis.zrange, self._index, 0, -1))]
        return min((wait_s for part in slices(ids) for wait_s in self._move_all(list(part))), default=IDLE_S)

    def _run_forever(self) -> None:
        while not self._stopped:
            self._wake.clear()  # before the look: what is made meanwhile is looked at in the next
            self._wake.wait(self._run_due_or_wait())

    def _run_due_or_wait(self) -> float:
        try:
            wait_s, self._fails = self.run_due(), False
        except Exception as error:  # whatever it was: without this thread no test job would end
            if not self._fails:
                log.warning("test jobs wait: %s", brief(error) if isinstance(error, RedisError) else error)
            wait_s, self._fails = IDLE_S, True
        return wait_s

    def _move_all(self, ids: list[str]) -> Iterator[float]:
        jobs, now = self.machine.store.get_many(ids), redis_now_s(self.machine.redis)
        for job_id, job in zip(ids, jobs, strict=True):
            if job is None or job.status.done:
                self.machine.forget(job_id, tenant=SOME_TEST_DATA)
                continue
            with logged_as(job.request_id, job.trace_id):
                yield self._try_to_move(job, now)

    def _try_to_move(self, job: Job, now: float) -> float:
        try:
            return self._move(job, now)
        except RedisError:
            raise
        except Exception as error:  # a damaged record keeps no other job from its end
            stored.set_aside(job.id, f"a test job cannot go on: {type(error).__name__}")
            return IDLE_S

    def _move(self, job: Job, now: float) -> float:
        """One step of a job; the seconds until its next."""
        run = job if job.status is JobState.RUNNING else self._begin(job)
        if run is None:
            return IDLE_S
        outcome = outcome_of(run)
        left_s = max(outcome.run_s - max(now - (run.started_at or now), 0.0), 0.0)
        signal = self.machine.report(run, progress=_progress(run, 1 - left_s / outcome.run_s if left_s else 1.0))
        if signal is RunSignal.OK and left_s:
            return min(left_s, PROGRESS_S)
        self._end(run, outcome, signal)
        return IDLE_S

    def _begin(self, job: Job) -> Job | None:
        version = job.model_version or ""
        try:
            return self.machine.start(job.id, max_attempts=1, lease_s=LEASE_S, worker="test", model_version=version)
        except Overdue:
            self.machine.stop(job, reason=RunSignal.DEADLINE_EXCEEDED)
            return None

    def _end(self, run: Job, outcome: Outcome, signal: RunSignal) -> None:
        timings = run.timings | {
            "queue_s": 0.0,
            "decode_s": 0.0,
            "inference_s": outcome.run_s,
            "total_s": outcome.run_s,
        }
        try:
            if signal in (RunSignal.BY_CLIENT, RunSignal.DEADLINE_EXCEEDED):
                self.machine.stop(run, reason=signal, timings=timings)
            elif signal is RunSignal.OK and outcome.failure:
                error = problem_object(outcome.failure, PROBLEMS[outcome.failure].meaning, **_told_of(run))
                self.machine.fail(run, error=error, model=TEST_MODEL, timings=timings)
            elif signal is RunSignal.OK:
                self.machine.succeed(run, **_success(run), timings=timings)
        except NotReplicated as error:
            log.warning("the end of a test job is not confirmed: %s", error, extra={"job_id": run.id})


def _told_of(run: Job) -> dict[str, Any]:
    return {"attempts": run.attempt, "request_id": run.request_id}


def _segments(run: Job) -> int:
    return max(math.ceil(run.estimated_s / SEGMENT_S), 1)


def _progress(run: Job, share: float) -> Json:
    total = _segments(run)
    return {"stage": "embedding", "segments_done": int(share * total), "segments_total": total}


def _success(run: Job) -> dict[str, Any]:
    """Nothing is decoded: the length is an estimate from the size of the file."""
    total, sha256 = _segments(run), run.audio["sha256"]
    ranges = {name: list(bounds) for name, bounds in SCORE_RANGES.items()}
    return {
        "audio": run.audio | {"duration_s": run.estimated_s},
        "progress": {"stage": "scoring", "segments_done": total, "segments_total": total},
        "result": {"scores": made_up_scores(sha256), "ranges": ranges, **made_up_segments(sha256, total)},
        "model": TEST_MODEL,
        "embedding": made_up_embedding(sha256, total) if run.with_embedding else None,
    }
