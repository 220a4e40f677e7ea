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
from app.api.submissions.create_job import Terms
from app.api.submissions.headers import DigestedBody, Order
from app.api.submissions.idempotency import Answer, Busy, Claim, Stored, fingerprint
from app.api.uploads.receiver import TrackHead, Upload
from app.core.callers import Caller
from app.core.jobs.store import Job, Place
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
    order: Order

    async def answer(self) -> Response:
        """Make a job, or find the one that the same request made before. All refusals are `Problem`s.

        What the headers decide is decided before a byte of the body is read.
        """
        head = self._examined()
        if self.order.idempotency_key is None:
            return _response(await self._accepted(head, None))
        match await run_in_threadpool(self._begin, self.order.idempotency_key):
            case Stored() as stored:
                return await self._replayed(stored, head)
            case Busy() as busy:
                raise await run_in_threadpool(self._in_flight, busy)
            case Claim() as claim:
                async with self.services.idempotency.held(claim):
                    return _response(await self._accepted(head, claim))

    def _examined(self) -> TrackHead:
        return self.services.uploader.examine(self.request)

    def _begin(self, key: str) -> Claim | Busy | Stored:
        return self.services.idempotency.begin(tenant=self.caller.tenant, route=self.route, key=key)

    def _in_flight(self, busy: Busy) -> Problem:
        made = self.services.jobs.get(busy.job_id)
        return Problem("idempotency_in_flight", job_id=made.id) if made else Problem("idempotency_in_flight")

    async def _accepted(self, head: TrackHead, claim: Claim | None) -> Answer:
        async with self.services.gate.admitted(self.request, self.caller), self._upload(head) as upload:
            job, answer = await uninterrupted(self._accepted_and_told, upload, head, claim)
        if self.order.wait_s and not job.status.done:
            with suppress(RedisError):  # the job is durable, whatever becomes of the wait
                job = await wait_until_done(self.services, job.id, timeout_s=self.order.wait_s, request=self.request)
            answer = await uninterrupted(self._tell, job, claim) if job.status.done else answer
        return answer

    def _accepted_and_told(self, upload: Upload, head: TrackHead, claim: Claim | None) -> tuple[Job, Answer]:
        self._complete(upload, head)
        terms = Terms(self.caller, REQUEST_ID.get(), TRACE_ID.get(), self.order.cancel_after_s, claim=claim)
        job, place = self.services.acceptance.accept(upload, terms)
        return job, self._tell(job, claim, place)

    def _tell(self, job: Job, claim: Claim | None, place: Place | None = None) -> Answer:
        """What the client is told, stored under its key."""
        view = self.services.view(job, place)
        headers = {"Location": view.links.itself, **polling_headers(view), **applied(self.order.wait_s, job)}
        answer = Answer(200 if job.status.done else 202, headers, view.model_dump_json(by_alias=True).encode())
        if claim:
            self._store(claim, answer, job.fingerprint or "")
        return answer

    def _store(self, claim: Claim, answer: Answer, fingerprint: str) -> None:
        try:
            prints = {"fingerprint": fingerprint, "request_print": self._request_print() or ""}
            self.services.idempotency.finish(claim, answer, **prints)
        except RedisError:
            # What was made is durable: its client is told so, and a retry finds it by the id in the claim.
            log.warning("an answer was not stored", extra={"claimed_id": claim.job_id}, exc_info=True)

    async def _replayed(self, stored: Stored, head: TrackHead) -> Response:
        same = self._same_by_headers(stored, head)
        if same is None:
            async with self.services.gate.admitted(self.request, self.caller, jobs=0):
                same = await self._print_of_body(head) == stored.fingerprint
        if not same:
            raise Problem("idempotency_key_reused")
        return _response(stored.answer, {"Idempotent-Replayed": "true"})

    def _same_by_headers(self, stored: Stored, head: TrackHead) -> bool | None:
        """Whether this is the stored request again, None when only the body can tell."""
        sha256 = self.order.content_sha256
        if sha256 is None:
            return None
        if head.boundary is None:
            return fingerprint(sha256, head.options) == stored.fingerprint
        return True if self._request_print() == stored.request_print else None

    async def _print_of_body(self, head: TrackHead) -> str:
        async with self._upload(head) as upload:
            await uninterrupted(self._complete, upload, head)
            return fingerprint(upload.part.sha256, upload.options)

    def _request_print(self) -> str | None:
        """Of a request that declares the digest of its body: with the same print it is the same request."""
        if self.order.content_sha256 is None:
            return None
        url, content_type = self.request.url.query, self.request.headers.get("content-type", "")
        return hashlib.sha256("\n".join((self.order.content_sha256, content_type, url)).encode()).hexdigest()

    @asynccontextmanager
    async def _upload(self, head: TrackHead) -> AsyncIterator[Upload]:
        """The upload. A form that has a digest is hashed as a whole, beside the file in it."""
        body = DigestedBody(self.request) if self.order.content_sha256 and head.boundary else None
        async with self.services.uploader.receive(body.request if body else self.request, head) as upload:
            if body:
                self._refuse_other_digest(body.sha256)
            yield upload

    def _complete(self, upload: Upload, head: TrackHead) -> None:
        """Write the end of the file, in the thread that goes on with it. A raw file is what its digest says."""
        upload.part.flush()
        if head.boundary is None:
            self._refuse_other_digest(upload.part.sha256)

    def _refuse_other_digest(self, sha256: str) -> None:
        if self.order.content_sha256 not in (None, sha256):
            raise Problem("digest_mismatch")


async def uninterrupted(work: Callable[..., T], *arguments: object) -> T:
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


def _response(answer: Answer, more: dict[str, str] | None = None) -> Response:
    headers = {**answer.headers, **(more or {})}
    return Response(answer.body, status_code=answer.status, headers=headers, media_type="application/json")
