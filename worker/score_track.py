"""The one task: score the track of a job, and write what came of it into the job record.

An expected failure (a track that cannot be scored) is an outcome. After a fault of this machine the job is handed back
without having used up an attempt. After any other error it is requeued, until its attempts are used up. Nothing is
raised to RQ, which would keep the error's text and judge the job.
"""

import errno
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Protocol

from rq.timeouts import JobTimeoutException

from app.core.deployment import Deployment
from app.core.jobs.models import AttemptsExhausted, Job, ModelUnavailable, Overdue, RunSignal
from app.core.jobs.queue_status import QueueStatus
from app.core.jobs.state_machine import JobStateMachine
from app.core.logging import logged_as
from app.core.problems import PROBLEMS, problem_object
from app.core.redis.replicas import unconfirmed_is_kept
from app.core.storage.protocol import Storage
from app.core.stored import Unreadable, set_aside
from model.audio.decoder import Decoder
from model.audio.pcm import Samples
from model.domain import AudioError, DeviceLost, DeviceOutOfMemory, ModelOutputInvalid
from model.inference.analysis import SPREAD_LEVEL, TrackAnalysis
from worker.audio_files import AudioFiles
from worker.machine_faults import HAND_BACK_S, Pause, is_machine_fault, may_hand_back
from worker.watchdog import Watchdog

log = logging.getLogger(__name__)

OUR_FAULT = "Scoring failed for a reason of ours."
#: Exit code that tells a device that failed, or has too little memory for the network, from a crash. Only a new process
#: can use it, now or later.
EXIT_DEVICE_LOST = 71


class ModelInfo(Protocol):
    """A scorer's description of its model. A data class, because it is published field by field."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def version(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def scores(self) -> Mapping[str, Sequence[float]]: ...

    @property
    def reference(self) -> Mapping[str, Any] | None: ...

    def identity(self) -> dict[str, Any]:
        """What goes into each job's record."""


class TrackScorer(Protocol):
    """`model.inference.scorer.Scorer`, which brings torch, or another with the same two members."""

    @property
    def card(self) -> ModelInfo: ...

    def analyse(self, segments: Iterable[Samples], *, on_progress: Callable[[int], None]) -> TrackAnalysis: ...


class RunStopped(Exception):
    """The run must end before its result: the job was taken over, canceled, or is overdue."""

    def __init__(self, signal: RunSignal) -> None:
        super().__init__(signal)
        self.signal = signal


class Preempted(Exception):
    """The run must end before its result because its worker must stop; the job keeps its attempts."""


@dataclass
class ScoreTrack:
    """`ScoreTrack(...)(job_id)` runs one job to its end. It holds all that a run needs."""

    machine: JobStateMachine
    queue_status: QueueStatus
    storage: Storage
    audio: AudioFiles
    deployment: Deployment
    decoder: Decoder
    scorer: TrackScorer
    max_attempts: int
    lease_s: float
    watchdog: Watchdog
    pause: Pause
    worker: str = ""
    hand_back_s: float = HAND_BACK_S
    on_device_lost: Callable[[], object] = lambda: os._exit(EXIT_DEVICE_LOST)
    _running: Job | None = field(default=None, init=False)
    _drain_deadline: float = field(default=math.inf, init=False)

    def __call__(self, job_id: str) -> None:
        try:
            job = self.machine.start(
                job_id,
                max_attempts=self.max_attempts,
                lease_s=self.lease_s,
                worker=self.worker,
                model_version=self.scorer.card.version,
            )
        except AttemptsExhausted:
            self._give_up(job_id)
            return
        except ModelUnavailable:
            self._give_up(job_id, "model_unavailable", "No worker of the model that it asks for came to it for a day.")
            return
        except Overdue:
            if overdue := self.machine.store.get(job_id):
                self._stop(overdue, RunSignal.DEADLINE_EXCEEDED)
            return
        except Unreadable as error:
            set_aside(job_id, str(error))
            return
        if job is None:
            log.info("nothing to do: the job is finished, or another worker's", extra={"job_id": job_id})
            return
        self._running = job
        with logged_as(job.request_id, job.trace_id):
            try:
                self._run(job)
            finally:
                self._running = None
                self.watchdog.disarm()
        if not self.pause.active:
            self.pause.forget()

    @property
    def model_queue_key(self) -> str:
        """The list of ids that wait for workers of this one's model."""
        return self.machine.queue.model_queue_key(self.scorer.card.version)

    def renew(self) -> None:
        """Prolong the lease of the run in progress, if there is one. Called from another thread."""
        if job := self._running:
            self.machine.renew(job, lease_s=self.lease_s)

    def set_drain_deadline(self, grace_s: float) -> None:
        """Preempt a run that goes on for longer than this, after its next segment. Safe in a signal handler."""
        self._drain_deadline = time.monotonic() + grace_s

    def _run(self, job: Job) -> None:
        try:
            self._finish(job, self._score(job))
        except (AudioError, ModelOutputInvalid) as error:
            self._fail(job, error.code, str(error))
        except JobTimeoutException:
            self._fail(job, "timed_out", "The run took longer than one run may take.")
        except RunStopped as stopped:
            self._stop(job, stopped.signal)
        except DeviceLost:
            self._handle_unexpected(job)
            self.on_device_lost()
        except Preempted:
            self.machine.requeue(job, counted=False)
            log.info("run preempted: this worker must stop", extra={"job_id": job.id, "attempt": job.attempt})
        except DeviceOutOfMemory as error:
            self._handle_unexpected(job, error.code)
        except OSError as error:
            self._hand_back(job, error)
        except MemoryError:  # what a run needs here does not depend on its track
            self._hand_back(job, OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))
        except BaseException:  # a library's sys.exit() among them: it is no reason to end this process
            self._handle_unexpected(job)

    def _score(self, job: Job) -> dict[str, Any]:
        clock = Stopwatch()
        self._report(job, progress=progress("decoding", 0, None))
        with self.audio.open(job) as file, self.decoder.decode(file) as track:
            decode_s = clock.lap_s()
            self.audio.look_ahead()
            total = track.n_segments
            audio, warnings = job.audio | asdict(track.facts), [asdict(warning) for warning in track.warnings]
            self._report(job, audio=audio, progress=progress("embedding", 0, total))
            analysis = self.scorer.analyse(
                track.segments(),
                on_progress=lambda done: self._report(job, progress=progress("embedding", done, total)),
            )
        return {
            "audio": audio,
            "progress": progress("scoring", total, total),
            "result": self._result(analysis) | {"warnings": warnings},
            "model": self.scorer.card.identity(),
            "timings": self._timings(job, decode_s=decode_s, inference_s=clock.lap_s()),
            "embedding": analysis.embedding.to_json() if job.with_embedding else None,
        }

    def _result(self, analysis: TrackAnalysis) -> dict[str, Any]:
        """What a record has of an analysis. With the segments, which cost little, any later request is answered."""
        card = self.scorer.card
        result: dict[str, Any] = {
            "scores": analysis.scores,
            "ranges": {name: list(card.scores[name]) for name in analysis.scores},
            "segment_scores": analysis.segment_scores,
        }
        if analysis.spread is not None:
            result["spread"] = {"method": "segment_bootstrap", "level": SPREAD_LEVEL, **analysis.spread}
        if analysis.percentiles is not None:
            result["percentiles"] = {"reference": card.reference, **analysis.percentiles}
        return result

    def _report(self, job: Job, **changes: Any) -> None:
        self.watchdog.reset()
        signal = self.machine.report(job, **changes)
        self.watchdog.reset()  # time that Redis was away does not count as a stalled model
        if signal is not RunSignal.OK:
            raise RunStopped(signal)
        if time.monotonic() > self._drain_deadline:
            raise Preempted

    def _finish(self, job: Job, outcome: dict[str, Any]) -> None:
        with unconfirmed_is_kept(job.id):
            if not self.machine.succeed(job, **outcome):
                raise RunStopped(RunSignal.LOST)
            self.storage.delete(job.storage_key)
        self.queue_status.record_throughput(outcome["audio"]["duration_s"] / max(run_s(outcome["timings"]), 0.001))
        log.info("job succeeded", extra={"job_id": job.id, "attempt": job.attempt})

    def _fail(self, job: Job, code: str, detail: str) -> None:
        error = problem_object(code, detail, attempts=job.attempt, request_id=job.request_id)
        with unconfirmed_is_kept(job.id):
            if self.machine.fail(job, error=error, model=self.scorer.card.identity(), timings=self._timings(job)):
                self.storage.delete(job.storage_key)
                log.info("job failed: %s", code, extra={"job_id": job.id, "attempt": job.attempt})

    def _timings(self, job: Job, **stages_s: float) -> dict[str, Any]:
        return timings(job, now=self.queue_status.now_s(), **stages_s)

    def _stop(self, job: Job, signal: RunSignal) -> None:
        with unconfirmed_is_kept(job.id):
            if signal is not RunSignal.LOST and self.machine.stop(job, reason=signal, timings=self._timings(job)):
                self.storage.delete(job.storage_key)
        log.info("run stopped: %s", signal, extra={"job_id": job.id, "attempt": job.attempt})

    def _hand_back(self, job: Job, error: OSError) -> None:
        """Give the job back uncounted after a fault of this machine, which a track cannot cause, and pause."""
        if not is_machine_fault(error):
            self._handle_unexpected(job)
        elif isinstance(error, FileNotFoundError) and self._has_lost_audio(job):
            self._fail(job, "audio_lost", PROBLEMS["audio_lost"].meaning)
        elif not may_hand_back(job, self.hand_back_s) and self._is_in_order():
            self.pause.begin(error)
            self._handle_unexpected(job)
        elif self.machine.requeue(job, counted=False, machine_fault=True):
            self.pause.begin(error)
            log.warning("run handed back: %s", error, extra={"job_id": job.id, "attempt": job.attempt})

    def _has_lost_audio(self, job: Job) -> bool:
        """Whether the storage is the right one, and has no audio of the job."""
        return self._is_in_order() and not self.storage.has(job.storage_key)

    def _is_in_order(self) -> bool:
        """Whether the storage is this deployment's."""
        try:
            self.deployment.check()
        except OSError:
            return False
        return True

    def _handle_unexpected(self, job: Job, code: str = "internal_error", detail: str = OUR_FAULT) -> None:
        log.exception("the run ended unexpectedly", extra={"job_id": job.id, "attempt": job.attempt})
        if job.attempts_used >= self.max_attempts:
            self._fail(job, code, detail)
        else:
            self.machine.requeue(job)

    def _give_up(self, job_id: str, code: str = "worker_lost", detail: str = "") -> None:
        if job := self.machine.store.get(job_id):
            self._fail(job, code, detail or f"Each of {job.attempts_used} runs ended with its worker.")


class Stopwatch:
    """Seconds between laps, to the millisecond."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def lap_s(self) -> float:
        before, self._at = self._at, time.monotonic()
        return round(self._at - before, 3)


def progress(stage: str, done: int, total: int | None) -> dict[str, Any]:
    return {"stage": stage, "segments_done": done, "segments_total": total}


def timings(job: Job, *, now: float, **stages_s: float) -> dict[str, Any]:
    """How long each stage took; the queue's share runs from acceptance to the start of this run. `now` is Redis's."""
    queue_s = round((job.started_at or job.created_at) - job.created_at, 3)
    total_s = round(now - job.created_at, 3)
    return job.timings | {"queue_s": max(queue_s, 0.0), **stages_s, "total_s": max(total_s, 0.0)}


def run_s(timings_s: dict[str, Any]) -> float:
    """What a worker spent on a run."""
    return float(timings_s["decode_s"] + timings_s["inference_s"])
