"""Create a job from a complete upload: fsync the audio, then write the record and queue the job in one step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from redis.exceptions import ConnectionError, TimeoutError

from app.api.auth.rate_limits import quota_exceeded
from app.api.jobs.wait_estimate import estimate_duration_s
from app.api.submissions.admission import AdmissionControl
from app.api.submissions.idempotency import Claim, IdempotencyKeys, fingerprint
from app.api.uploads.receiver import Upload
from app.core.callers import Caller
from app.core.jobs.models import (
    BatchFull,
    Job,
    JobExists,
    JobState,
    QueueFull,
    QueuePosition,
    TooManyJobsInFlight,
    UnknownBatch,
    new_job_id,
    now_s,
)
from app.core.jobs.state_machine import JobStateMachine
from app.core.json_types import Json
from app.core.problems import Problem, invalid_field
from app.core.storage.local import AudioStorage

#: After these a record of the job's id may be there, and need the audio: its reply was lost, or the id is taken.
#: When there is none, the reconciler deletes the audio later.
RECORD_MAY_EXIST = (ConnectionError, TimeoutError, JobExists)


@dataclass(frozen=True)
class SubmissionContext:
    """Under which conditions an upload is accepted, beside its own options."""

    caller: Caller
    request_id: str | None = None
    trace_id: str | None = None
    cancel_after_s: int | None = None
    claim: Claim | None = None


@dataclass(frozen=True)
class JobCreator:
    """`create(upload, context)` makes the job. Blocking."""

    machine: JobStateMachine
    storage: AudioStorage
    keys: IdempotencyKeys
    admission: AdmissionControl
    max_duration_s: float
    model: Callable[[], Json | None]

    def create(self, upload: Upload, context: SubmissionContext) -> tuple[Job, QueuePosition | None]:
        """The job: a new one, a finished one when the track's scores are known, or the one that the claim's key made.

        With the queue position of a new one, which the step that makes it knows.
        Raises `quota_exceeded`, `queue_full`, `validation_error` for a model that is not there, and the problems of an
        idempotency key.
        """
        job = self._build_job(upload, context)
        if context.claim and (made := self._existing_job(job, context.claim)):
            return made, None
        self._check_model_version(upload.options.model_version)
        if cached := self._cached_result(job):
            return cached, self._created(cached, context)
        upload.part.commit(job.storage_key)
        return job, self._created(job, context)

    def _build_job(self, upload: Upload, context: SubmissionContext) -> Job:
        job_id = context.claim.job_id if context.claim else new_job_id()
        part, options, created_at = upload.part, upload.options, now_s()
        return Job(
            id=job_id,
            storage_key=job_id,
            tenant=context.caller.tenant,
            created_at=created_at,
            deadline=created_at + context.cancel_after_s if context.cancel_after_s else None,
            request_id=context.request_id,
            trace_id=context.trace_id,
            external_id=options.external_id,
            batch_id=options.batch_id,
            metadata=options.metadata,
            audio={"sha256": part.sha256, "bytes": part.size_bytes, "container": upload.container},
            estimated_s=estimate_duration_s(upload.container, part.size_bytes, self.max_duration_s),
            timings={"upload_s": upload.upload_s},
            fingerprint=fingerprint(part.sha256, options),
            idempotency=context.claim.entry if context.claim else None,
        )

    def _existing_job(self, job: Job, claim: Claim) -> Job | None:
        """What an earlier request of the same key made whose answer was lost."""
        if claim.taken_over and (made := self.machine.store.get(claim.job_id)):
            return self._same(made, job)
        # Who lost the claim must not touch the file that the new owner may have written.
        if not self.keys.renew(claim):
            raise Problem("idempotency_in_flight")
        return None

    def _same(self, made: Job, job: Job) -> Job:
        if made.fingerprint != job.fingerprint:
            raise Problem("idempotency_key_reused")
        return made

    def _check_model_version(self, wanted: str | None) -> None:
        loaded = self._model_version() if wanted else None
        if wanted != loaded:
            raise invalid_field("model_version", f"The workers run {loaded}." if loaded else "No model is loaded yet.")

    def _model_version(self) -> str | None:
        return (self.model() or {}).get("version")

    def _cached_result(self, job: Job) -> Job | None:
        """The job as finished, when its tenant has the scores of the same bytes by the model of today."""
        version = self._model_version()
        if version is None:
            return None
        known = self.machine.store.cached_result(tenant=job.tenant, sha256=job.audio["sha256"], model_version=version)
        return _finished_like(job, known) if known else None

    def _created(self, job: Job, context: SubmissionContext) -> QueuePosition | None:
        work = not job.status.done
        max_in_flight = context.caller.limits.jobs_in_flight if work else None
        max_backlog_s = self.admission.max_queued_audio_s if work else None
        with self._audio_deleted_when_refused(job):
            try:
                return self.machine.create(job, max_in_flight=max_in_flight, max_backlog_s=max_backlog_s)
            except TooManyJobsInFlight:
                raise quota_exceeded("inflight") from None
            except UnknownBatch:
                raise invalid_field("batch_id", "There is no such batch.") from None
            except BatchFull:
                raise invalid_field("batch_id", "The batch has as many items as one may have.") from None
            except QueueFull:
                raise self.admission.queue_full() from None

    @contextmanager
    def _audio_deleted_when_refused(self, job: Job) -> Iterator[None]:
        try:
            yield
        except RECORD_MAY_EXIST:
            raise
        except BaseException:
            self.storage.delete(job.storage_key)
            raise


def _finished_like(job: Job, known: Job) -> Job:
    return replace(
        job,
        status=JobState.SUCCEEDED,
        finished_at=job.created_at,
        deadline=None,
        audio=known.audio,
        progress=known.progress,
        result=known.result,
        model=known.model,
        timings={**job.timings, "total_s": 0.0},
        cached=True,
    )
