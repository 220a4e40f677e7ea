"""Submissions: a request that sends tracks, carried out once for each idempotency key."""

import hashlib
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool

from app.api.dependencies import Services
from app.api.submissions.headers import SubmissionHeaders
from app.api.submissions.idempotency import Claim, Completed, InProgress, StoredResponse, fingerprint
from app.api.uploads.receiver import UploadMetadata
from app.core.callers import Caller
from app.core.problems import Problem

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Submission:
    """One request that sends tracks: who sent it, and what its headers ask for."""

    request: Request
    services: Services
    caller: Caller
    headers: SubmissionHeaders

    @property
    def path(self) -> str:
        """The path of the request, without the root path."""
        path: str = self.request.scope["path"]
        return path.removeprefix(self.services.settings.root_path)

    def admitted(self, *, jobs: int = 1) -> AbstractAsyncContextManager[None]:
        """See `AdmissionControl.admitted`."""
        return self.services.admission.admitted(self.request, self.caller, jobs=jobs)

    def body_fingerprint(self) -> str:
        """Fingerprint of the request by the digest that it declares of its body; empty when it declares none."""
        if self.headers.content_sha256 is None:
            return ""
        query, content_type = self.request.url.query, self.request.headers.get("content-type", "")
        return hashlib.sha256("\n".join((self.headers.content_sha256, content_type, query)).encode()).hexdigest()

    def store(self, claim: Claim | None, response: StoredResponse, fingerprint: str) -> None:
        """Store a response for those who repeat the request, if it has an idempotency key. Blocking."""
        if claim is None:
            return
        prints = {"fingerprint": fingerprint, "body_fingerprint": self.body_fingerprint()}
        try:
            self.services.idempotency.complete(claim, response, **prints)
        except Exception:
            # The job is durable, so the response is sent all the same; a retry finds the job by the id in the claim.
            log.warning("a response was not stored", extra={"claimed_id": claim.job_id}, exc_info=True)


@dataclass(frozen=True)
class Work:
    """What a route does with a submission.

    route : what an idempotency key is bound to, beside its tenant
    metadata : what the headers say of the body
    run : reads the body and creates the jobs, under the claim of the idempotency key if there is one
    read_fingerprint : only reads the body, to tell whether a repeated request is the same one
    """

    route: str
    metadata: UploadMetadata
    run: Callable[[Claim | None], Awaitable[StoredResponse]]
    read_fingerprint: Callable[[], Awaitable[str]]


async def run_idempotent(submission: Submission, work: Work) -> Response:
    """Do the work, unless an earlier request with the same idempotency key did it: then replay its response.

    Raises `idempotency_in_flight` while the earlier request is at work, and `idempotency_key_reused` when it sent
    something else.
    """
    key, idempotency = submission.headers.idempotency_key, submission.services.idempotency
    if key is None:
        return _http_response(await work.run(None))
    match await run_in_threadpool(idempotency.begin, tenant=submission.caller.tenant, route=work.route, key=key):
        case Completed() as completed:
            return await _replay(submission, work, completed)
        case InProgress(job_id):
            raise await run_in_threadpool(_in_progress, submission.services, job_id)
        case Claim() as claim:
            async with idempotency.keep_alive(claim):
                return _http_response(await work.run(claim))


def _in_progress(services: Services, job_id: str) -> Problem:
    exists = services.jobs.get(job_id) is not None
    return Problem("idempotency_in_flight", job_id=job_id) if exists else Problem("idempotency_in_flight")


async def _replay(submission: Submission, work: Work, completed: Completed) -> Response:
    same = _same_by_headers(submission, work.metadata, completed)
    if same is None:
        async with submission.admitted(jobs=0):
            same = await work.read_fingerprint() == completed.fingerprint
    if not same:
        raise Problem("idempotency_key_reused")
    return _http_response(completed.response, {"Idempotent-Replayed": "true"})


def _same_by_headers(submission: Submission, metadata: UploadMetadata, completed: Completed) -> bool | None:
    """Whether this is the completed request again; None when only the body can tell."""
    sha256 = submission.headers.content_sha256
    if sha256 is None:
        return None
    if metadata.boundary is None:
        return fingerprint(sha256, metadata.options) == completed.fingerprint
    # The same tracks can be sent in a form with another boundary, so a difference means nothing.
    return True if submission.body_fingerprint() == completed.body_fingerprint else None


def _http_response(response: StoredResponse, more: dict[str, str] | None = None) -> Response:
    headers = {**response.headers, **(more or {})}
    return Response(response.body, status_code=response.status, headers=headers, media_type="application/json")
