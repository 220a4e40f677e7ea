"""Submission: `POST /score` from its headers to its answer, with what its sender asks for beside the score."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from redis.exceptions import RedisError

from app.api.dependencies import Services
from app.api.jobs.long_poll import applied, wait_until_done
from app.api.jobs.response import polling_headers
from app.api.submissions.create_job import SubmissionContext
from app.api.submissions.headers import HashingRequest, SubmissionHeaders
from app.api.submissions.idempotency import Claim, Completed, InProgress, StoredResponse, fingerprint
from app.api.uploads.receiver import Upload, UploadMetadata
from app.core.callers import Caller
from app.core.jobs.store import Job, QueuePosition
from app.core.logging import REQUEST_ID, TRACE_ID
from app.core.problems import Problem

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Submission:
    """One request. `answer()` is all there is to call."""

    #: What an idempotency key is bound to, beside its tenant.
    route: ClassVar[str] = "POST /score"

    request: Request
    services: Services
    caller: Caller
    headers: SubmissionHeaders

    async def answer(self) -> Response:
        """Make a job, or find the one that the same request made before. All refusals are `Problem`s.

        What the headers decide is decided before a byte of the body is read.
        """
        head = self._check_headers()
        if self.headers.idempotency_key is None:
            return _response(await self._accepted(head, None))
        match await run_in_threadpool(self._begin, self.headers.idempotency_key):
            case Completed() as stored:
                return await self._replayed(stored, head)
            case InProgress() as busy:
                raise await run_in_threadpool(self._in_flight, busy)
            case Claim() as claim:
                async with self.services.idempotency.keep_alive(claim):
                    return _response(await self._accepted(head, claim))

    def _check_headers(self) -> UploadMetadata:
        return self.services.uploads.check_headers(self.request)

    def _begin(self, key: str) -> Claim | InProgress | Completed:
        return self.services.idempotency.begin(tenant=self.caller.tenant, route=self.route, key=key)

    def _in_flight(self, busy: InProgress) -> Problem:
        made = self.services.jobs.get(busy.job_id)
        return Problem("idempotency_in_flight", job_id=made.id) if made else Problem("idempotency_in_flight")

    async def _accepted(self, head: UploadMetadata, claim: Claim | None) -> StoredResponse:
        async with self.services.admission.admitted(self.request, self.caller), self._upload(head) as upload:
            job, answer = await run_to_completion(self._accepted_and_told, upload, head, claim)
        if self.headers.wait_s and not job.status.done:
            with suppress(RedisError):  # the job is durable, whatever becomes of the wait
                job = await wait_until_done(self.services, job.id, timeout_s=self.headers.wait_s, request=self.request)
            answer = await run_to_completion(self._render_response, job, claim) if job.status.done else answer
        return answer

    def _accepted_and_told(
        self, upload: Upload, head: UploadMetadata, claim: Claim | None
    ) -> tuple[Job, StoredResponse]:
        self._complete(upload, head)
        context = SubmissionContext(
            self.caller, REQUEST_ID.get(), TRACE_ID.get(), self.headers.cancel_after_s, claim=claim
        )
        job, place = self.services.job_creator.create(upload, context)
        return job, self._render_response(job, claim, place)

    def _render_response(self, job: Job, claim: Claim | None, place: QueuePosition | None = None) -> StoredResponse:
        """What the client is told, stored under its key."""
        view = self.services.job_service.view(job, place)
        headers = {"Location": view.links.itself, **polling_headers(view), **applied(self.headers.wait_s, job)}
        answer = StoredResponse(200 if job.status.done else 202, headers, view.model_dump_json(by_alias=True).encode())
        if claim:
            self._store(claim, answer, job.fingerprint or "")
        return answer

    def _store(self, claim: Claim, answer: StoredResponse, fingerprint: str) -> None:
        try:
            prints = {"fingerprint": fingerprint, "body_fingerprint": self._declared_fingerprint() or ""}
            self.services.idempotency.finish(claim, answer, **prints)
        except RedisError:
            # What was made is durable: its client is told so, and a retry finds it by the id in the claim.
            log.warning("an answer was not stored", extra={"claimed_id": claim.job_id}, exc_info=True)

    async def _replayed(self, stored: Completed, head: UploadMetadata) -> Response:
        same = self._same_by_headers(stored, head)
        if same is None:
            async with self.services.admission.admitted(self.request, self.caller, jobs=0):
                same = await self._body_fingerprint_of(head) == stored.fingerprint
        if not same:
            raise Problem("idempotency_key_reused")
        return _response(stored.response, {"Idempotent-Replayed": "true"})

    def _same_by_headers(self, stored: Completed, head: UploadMetadata) -> bool | None:
        """Whether this is the stored request again, None when only the body can tell."""
        sha256 = self.headers.content_sha256
        if sha256 is None:
            return None
        if head.boundary is None:
            return fingerprint(sha256, head.options) == stored.fingerprint
        return True if self._declared_fingerprint() == stored.body_fingerprint else None

    async def _body_fingerprint_of(self, head: UploadMetadata) -> str:
        async with self._upload(head) as upload:
            await run_to_completion(self._complete, upload, head)
            return fingerprint(upload.part.sha256, upload.options)

    def _declared_fingerprint(self) -> str | None:
        """Of a request that declares the digest of its body: with the same print it is the same request."""
        if self.headers.content_sha256 is None:
            return None
        url, content_type = self.request.url.query, self.request.headers.get("content-type", "")
        return hashlib.sha256("\n".join((self.headers.content_sha256, content_type, url)).encode()).hexdigest()

    @asynccontextmanager
    async def _upload(self, head: UploadMetadata) -> AsyncIterator[Upload]:
        """The upload. A form that has a digest is hashed as a whole, beside the file in it."""
        body = HashingRequest(self.request) if self.headers.content_sha256 and head.boundary else None
        async with self.services.uploads.receive(body.request if body else self.request, head) as upload:
            if body:
                self._refuse_other_digest(body.sha256)
            yield upload

    def _complete(self, upload: Upload, head: UploadMetadata) -> None:
        """Write the end of the file, in the thread that goes on with it. A raw file is what its digest says."""
        upload.part.flush()
        if head.boundary is None:
            self._refuse_other_digest(upload.part.sha256)

    def _refuse_other_digest(self, sha256: str) -> None:
        if self.headers.content_sha256 not in (None, sha256):
            raise Problem("digest_mismatch")


async def run_to_completion(work: Callable[..., T], *arguments: object) -> T:
    """Run blocking work in a thread, to its end even when the request is cancelled.

    Whoever cancels is told the truth a moment later: a job that was made must not be reported as refused.
    """
    running = asyncio.ensure_future(run_in_threadpool(work, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if running.cancelled():
            raise
        result = await running
        if task := asyncio.current_task():
            task.uncancel()
        return result


def _response(answer: StoredResponse, more: dict[str, str] | None = None) -> Response:
    headers = {**answer.headers, **(more or {})}
    return Response(answer.body, status_code=answer.status, headers=headers, media_type="application/json")
