"""Create a job from a complete upload: fsync the audio, then write the record and queue the job in one step.

Or from a URL: write the record, and have the track fetched.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial

from redis.exceptions import ConnectionError, TimeoutError

from app.api.auth.authentication import check_scope
from app.api.auth.rate_limits import quota_exceeded
from app.api.jobs.wait_estimate import QueueLoad, estimate_duration_s
from app.api.schemas.options import TrackOptions
from app.api.submissions.admission import AdmissionControl
from app.api.submissions.idempotency import Claim, IdempotencyKeys, fingerprint
from app.api.submissions.known_scores import with_known_scores
from app.api.test_mode.outcomes import TEST_MODEL, USUAL, outcome_of
from app.api.uploads.receiver import Upload
from app.api.webhooks.targets import WebhookTargets
from app.core.callers import EMBEDDINGS_SCOPE, Caller
from app.core.deployment import Deployment
from app.core.egress_rules import EgressForbidden, EgressRules
from app.core.jobs.models import (
    BatchFull,
    Job,
    JobExists,
    QueueFull,
    QueuePosition,
    QueueShareExceeded,
    TooManyJobsInFlight,
    UnknownBatch,
    new_job_id,
)
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.store import JobStore
from app.core.json_types import Json
from app.core.logging import REQUEST_ID, TRACE_ID
from app.core.problems import Problem, invalid_field
from app.core.redis.failure import never_connected
from app.core.redis.replicas import NotReplicated
from app.core.storage.partial_upload import storage_problems
from app.core.storage.protocol import Storage

#: Errors after which the record may exist and need the audio, if Redis was reached: a reply was lost, or the id is
#: taken. Where there is no record, the reconciler deletes the audio later.
RECORD_MAY_EXIST = (ConnectionError, TimeoutError, JobExists, NotReplicated)
#: An upload is kept only where storage and Redis were found to be of one deployment less than this ago.
COMPARED_S = 1.0


@dataclass(frozen=True)
class JobCreator:
    """Creates jobs from complete uploads. Blocking. `on_test_job` is called for each new test job."""

    machine: JobStateMachine
    storage: Storage
    deployment: Deployment
    keys: IdempotencyKeys
    admission: AdmissionControl
    max_duration_s: float
    webhook_targets: WebhookTargets
    url_rules: EgressRules
    max_queued_urls: int
    model: Callable[[], Json | None]
    queue_load: Callable[[], QueueLoad]
    indexed_metadata: Collection[str] = ()
    on_test_job: Callable[[], object] = lambda: None

    def create(
        self, upload: Upload, caller: Caller, *, cancel_after_s: int | None = None, claim: Claim | None = None
    ) -> tuple[Job, QueuePosition | None]:
        """Create a queued job, or a finished one if the same bytes were scored before. Returns its queue position, too.

        Of a test job nothing is stored but the record.

        Under a claim that was taken over, returns the job that the earlier request created, if it did.
        Raises `quota_exceeded`, `queue_full`, `queue_share_exceeded`, `validation_error` for a model that is not loaded
        or a batch that cannot be joined, `forbidden_scope` for an embedding that the caller may not read,
        `webhook_forbidden`, `webhook_secret_missing`, `idempotency_in_flight` and `idempotency_key_reused`; and
        `NotReplicated`, after which a job without a claim is deleted again.
        """
        job = self._build_job(upload, caller, claim)
        return self._create(job, caller, cancel_after_s, claim, prepare=partial(self._store, upload))

    def create_from_url(
        self,
        url: str,
        options: TrackOptions,
        caller: Caller,
        *,
        cancel_after_s: int | None = None,
        claim: Claim | None = None,
    ) -> Job:
        """Create a job whose track is yet to be fetched. For a test job nothing is: its scores are made of the URL.

        Raises as `create` does, and `url_forbidden`.
        """
        job = _unfetched_job(url, options, caller, claim)
        return self._create(job, caller, cancel_after_s, claim, prepare=partial(self._check_url, url))[0]

    def create_from_urls(
        self,
        tracks: Sequence[tuple[str, TrackOptions]],
        caller: Caller,
        *,
        first_index: int,
        cancel_after_s: int | None = None,
    ) -> list[Job | Problem]:
        """`create_from_url` for the next tracks of a batch, whose options differ in what describes a track alone.

        The jobs, up to the first track that is refused, in whose place its problem is. In one round trip.
        """
        made, refused = self._checked_jobs(tracks, caller)
        limits = {"max_in_flight": caller.limits.jobs_in_flight, "max_unfetched": self.max_queued_urls}
        created = self.machine.create_in_order(
            made,
            first_index=first_index,
            indexed_metadata=self.indexed_metadata,
            cancel_after_s=cancel_after_s,
            **limits,
        )
        results = [result if isinstance(result, Job) else self._problem(result, caller) for result in created]
        if not caller.livemode:
            self.on_test_job()
        complete = len(results) == len(made) and all(isinstance(result, Job) for result in results)
        return [*results, *refused] if complete else results

    def _checked_jobs(
        self, tracks: Sequence[tuple[str, TrackOptions]], caller: Caller
    ) -> tuple[list[Job], list[Problem]]:
        """Jobs to create, up to the first track that is refused, and its problem if there is one."""
        jobs = list[Job]()
        for url, options in tracks:
            job = _unfetched_job(url, options, caller, None)
            try:
                if not jobs:
                    self._check_options(job, caller)
                if refusal := outcome_of(job).refusal:
                    raise Problem(refusal)
                self._check_url(url, job)
            except Problem as problem:
                return jobs, [problem]
            jobs.append(job)
        return jobs, []

    def _problem(self, error: Exception, caller: Caller) -> Problem:
        problem = self._refusal(error, caller)
        if problem is None:
            raise error
        return problem

    def _check_options(self, job: Job, caller: Caller) -> None:
        """What a client asks for that may be refused."""
        if job.with_embedding:
            check_scope(caller, EMBEDDINGS_SCOPE)
        self.webhook_targets.check(job.webhook_url, caller.tenant)
        self._check_model_version(job.model_version)

    def _create(
        self,
        job: Job,
        caller: Caller,
        cancel_after_s: int | None,
        claim: Claim | None,
        *,
        prepare: Callable[[Job], tuple[Job, Json | None]],
    ) -> tuple[Job, QueuePosition | None]:
        if claim and (existing := self._existing_job(job, claim)):
            return existing, None
        if refusal := outcome_of(job).refusal:
            raise Problem(refusal)
        self._check_options(job, caller)
        job, embedding = prepare(job)
        try:
            return self._write(job, caller, cancel_after_s, embedding)
        except NotReplicated:
            if claim is None:  # under a key, the request that repeats this one finds the job
                self.withdraw(job)
            raise

    def _store(self, upload: Upload, job: Job) -> tuple[Job, Json | None]:
        """The job, with its audio stored unless its scores are known, and the embedding that it then has."""
        job, embedding = self._with_known_scores(job)
        if job.livemode and not job.status.done:
            with storage_problems():
                self.deployment.check_if_older(COMPARED_S)
            upload.part.commit()
        return job, embedding

    def withdraw(self, job: Job) -> None:
        """Delete a job that nobody has been told of, and that nobody could ask for."""
        with suppress(NotReplicated):
            self.machine.purge(job)
        self.storage.delete(job.storage_key)

    def _build_job(self, upload: Upload, caller: Caller, claim: Claim | None) -> Job:
        part = upload.part
        return replace(
            _new_job(upload.job_id, upload.options, caller, claim),
            storage_key=part.key,
            audio={"sha256": part.sha256, "bytes": part.size_bytes, "container": upload.container},
            estimated_s=estimate_duration_s(upload.container, part.size_bytes, self.max_duration_s),
            timings={"upload_s": upload.upload_s},
            fingerprint=fingerprint(part.sha256, upload.options),
        )

    def _existing_job(self, job: Job, claim: Claim) -> Job | None:
        """The job that an earlier request with the same key created before its response was lost, or not confirmed."""
        existing = self._confirmed_job(claim.job_id) if claim.taken_over else None
        if existing and existing.fingerprint != job.fingerprint:
            raise Problem("idempotency_key_reused")
        # A request that lost its claim must not touch the file, which may be the new owner's by now.
        if not existing and not self.keys.renew(claim):
            raise Problem("idempotency_in_flight")
        return existing

    def _confirmed_job(self, job_id: str) -> Job | None:
        with self.machine.replicas.confirmed() as client:
            return JobStore(client, self.machine.keys).get(job_id)

    def _check_url(self, url: str, job: Job) -> tuple[Job, None]:
        try:
            self.url_rules.check_url(url)
        except EgressForbidden as error:
            raise Problem("url_forbidden", str(error) if self.url_rules.hosts else None) from None
        return job, None

    def _check_model_version(self, required: str | None) -> None:
        """The model is that of a worker that is alive, or of the last that started: it may be starting again."""
        if required is None or required == self._model_version():
            return
        versions = sorted({*self.queue_load().models, *filter(None, [self._model_version()])})
        if required not in versions:
            detail = f"The workers run {', '.join(versions)}." if versions else "No model is loaded yet."
            raise invalid_field("model_version", detail)

    def _version_for(self, job: Job) -> str | None:
        return job.model_version or self._model_version() if job.livemode else str(TEST_MODEL["version"])

    def _model_version(self) -> str | None:
        return (self.model() or {}).get("version")

    def _with_known_scores(self, job: Job) -> tuple[Job, Json | None]:
        version = self._version_for(job) if outcome_of(job) is USUAL else None
        return with_known_scores(job, self.machine.store, version) if version else (job, None)

    def _write(
        self, job: Job, caller: Caller, cancel_after_s: int | None, embedding: Json | None
    ) -> tuple[Job, QueuePosition | None]:
        """Write the record and queue the job. Deletes the audio of a job that is refused."""
        queued = not job.status.done
        max_in_flight = caller.limits.jobs_in_flight if queued else None
        limits: Json = {"max_in_flight": max_in_flight}
        if job.source:  # its length is not known, and the fetcher waits until there is room
            limits["max_unfetched"] = self.max_queued_urls
        elif queued and job.livemode:
            limits["backlog"] = self.admission.limits_of(caller)
        try:
            created = self.machine.create(
                job,
                cancel_after_s=cancel_after_s if queued else None,
                indexed_metadata=self.indexed_metadata,
                embedding=embedding,
                **limits,
            )
        except BaseException as error:
            if isinstance(error, RECORD_MAY_EXIST) and not never_connected(error):
                raise
            if not job.source:
                self.storage.delete(job.storage_key)
            if problem := self._refusal(error, caller):
                raise problem from None
            raise
        if job.livemode:
            return created
        self.on_test_job()
        return created[0], None

    def _refusal(self, error: BaseException, caller: Caller) -> Problem | None:
        match error:
            case TooManyJobsInFlight():
                return quota_exceeded("inflight")
            case QueueFull():
                return self.admission.queue_full()
            case QueueShareExceeded():
                return self.admission.queue_share_exceeded(caller)
            case UnknownBatch():
                return invalid_field("batch_id", "There is no such batch.")
            case BatchFull():
                return invalid_field("batch_id", "The batch has as many items as one may have.")
        return None


def _new_job(job_id: str, options: TrackOptions, caller: Caller, claim: Claim | None) -> Job:
    return Job(
        id=job_id,
        storage_key=job_id,
        tenant=caller.tenant,
        request_id=REQUEST_ID.get(),
        trace_id=TRACE_ID.get(),
        external_id=options.external_id,
        batch_id=options.batch_id,
        model_version=options.model_version,
        with_segments=options.segments,
        with_embedding=options.embedding,
        metadata=options.metadata,
        webhook_url=options.webhook_url,
        webhook_events=list(options.events),
        idempotency=claim.entry if claim else None,
        key_id=caller.key_id,
    )


def url_fingerprint(url: str, options: TrackOptions) -> str:
    """Identifies what a request asks for that sends a URL."""
    return fingerprint(_sha256(url), options)


def _sha256(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def _unfetched_job(url: str, options: TrackOptions, caller: Caller, claim: Claim | None) -> Job:
    job = replace(
        _new_job(claim.job_id if claim else new_job_id(), options, caller, claim),
        fingerprint=url_fingerprint(url, options),
    )
    if not job.livemode:
        return replace(job, audio={"sha256": _sha256(url)})
    return replace(job, source={"url": url, "limits": asdict(caller.limits)})
