"""Batch submission: `POST /batches` from its headers to its answer. Nothing is made before the whole form is there."""

import hashlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import ClassVar

from fastapi.concurrency import run_in_threadpool
from redis.exceptions import RedisError

from app.api.batches.store import Batch, new_batch_id
from app.api.batches.views import batch_headers, batch_view
from app.api.jobs.long_poll import wait_until_done
from app.api.schemas.batch import BatchQuery
from app.api.schemas.options import TrackOptions
from app.api.submissions.create_job import SubmissionContext
from app.api.submissions.headers import HashingRequest
from app.api.submissions.idempotency import Claim, StoredResponse, fingerprint
from app.api.submissions.single import Submission, run_to_completion
from app.api.uploads.receiver import BatchUpload, Upload, UploadMetadata
from app.core.logging import REQUEST_ID, TRACE_ID
from app.core.problems import Problem

log = logging.getLogger(__name__)


class BatchSubmission(Submission):
    """One request. A problem with one file is that file's; one with the form is raised."""

    route: ClassVar[str] = "POST /batches"

    def _check_headers(self) -> UploadMetadata:
        return self.services.uploads.check_batch_headers(self.request)

    async def _accepted(self, head: UploadMetadata, claim: Claim | None) -> StoredResponse:
        async with self.services.admission.admitted(self.request, self.caller), self._form(head) as upload:
            batch = await run_to_completion(self._accept, upload, claim)
        if self.headers.wait_s:
            with suppress(RedisError, Problem):  # the jobs are durable, whatever becomes of the wait
                await self._wait(batch)
        return await run_to_completion(self._render_batch, batch, [file.filename for file in upload.files], claim)

    async def _body_fingerprint_of(self, head: UploadMetadata) -> str:
        async with self._form(head) as upload:
            return body_fingerprint(upload)

    @asynccontextmanager
    async def _form(self, head: UploadMetadata) -> AsyncIterator[BatchUpload]:
        """The form, which is what its `Content-Digest` says."""
        body = HashingRequest(self.request) if self.headers.content_sha256 else None
        request = body.request if body else self.request
        async with self.services.uploads.receive_batch(request, head.boundary or b"") as upload:
            if body:
                self._refuse_other_digest(body.sha256)
            yield upload

    def _accept(self, upload: BatchUpload, claim: Claim | None) -> Batch:
        """Make the batch, or go on with what an earlier request of the same key left half made."""
        batch = self._begun(upload, claim)
        options = TrackOptions(batch_id=batch.id, model_version=upload.options.model_version)
        n_made = len(self.services.batches.items(batch))
        for file in upload.files[n_made:]:
            if problem := self._refusal(file.outcome, options):
                self._reject(batch, problem)
        return batch

    def _begun(self, upload: BatchUpload, claim: Claim | None) -> Batch:
        batch_id = f"bat_{claim.job_id.removeprefix('job_')}" if claim else new_batch_id()
        said, tenant = upload.options, self.caller.tenant
        batch = Batch(batch_id, tenant, said.batch_external_id, said.metadata, fingerprint=body_fingerprint(upload))
        made = self.services.batches.get(tenant, batch_id) if claim and claim.taken_over else None
        if made and made.fingerprint != batch.fingerprint:
            raise Problem("idempotency_key_reused")
        if claim and not self.services.idempotency.renew(claim):
            raise Problem("idempotency_in_flight")
        if not made:
            self.services.batches.create(batch)
        return made or batch

    def _refusal(self, outcome: Upload | Problem, options: TrackOptions) -> Problem | None:
        """Make a file's job; the problem when it comes to none."""
        if isinstance(outcome, Problem):
            return outcome
        context = SubmissionContext(self.caller, REQUEST_ID.get(), TRACE_ID.get(), self.headers.cancel_after_s)
        try:
            self.services.job_creator.create(replace(outcome, options=options), context)
        except Problem as problem:
            return problem
        return None

    def _reject(self, batch: Batch, problem: Problem) -> None:
        if problem.kind.status >= 500:
            log.error("%s", problem, exc_info=problem.__cause__)
        self.services.batches.reject(batch, problem.object(instance="/batches", request_id=REQUEST_ID.get()))

    async def _wait(self, batch: Batch) -> None:
        deadline = time.monotonic() + self.headers.wait_s
        for item in await run_in_threadpool(self.services.batches.items, batch):
            if isinstance(item, str):
                await wait_until_done(self.services, item, timeout_s=max(deadline - time.monotonic(), 0.0))

    def _render_batch(self, batch: Batch, filenames: list[str | None], claim: Claim | None) -> StoredResponse:
        """What the client is told, stored under its key."""
        view = batch_view(self.services, batch, BatchQuery(limit=len(filenames)), filenames=filenames)
        applied = {"Preference-Applied": f"wait={self.headers.wait_s}"} if self.headers.wait_s and view.done else {}
        headers = {"Location": view.links.itself, **batch_headers(view), **applied}
        answer = StoredResponse(207, headers, view.model_dump_json(by_alias=True).encode())
        if claim:
            self._store(claim, answer, batch.fingerprint or "")
        return answer


def body_fingerprint(upload: BatchUpload) -> str:
    """What the request asks for: the bytes of its files in their order, and what its sender says about them."""
    digests = [file.outcome.part.sha256 if isinstance(file.outcome, Upload) else "-" for file in upload.files]
    return fingerprint(hashlib.sha256("\n".join(digests).encode()).hexdigest(), upload.options)
