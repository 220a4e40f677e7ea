"""Admission control: whether a track may be sent now, decided before its body is read.

`JobStateMachine.create` checks the limits again, atomically: many requests may be admitted at the same time.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from app.api.auth.rate_limits import Quotas
from app.api.jobs.wait_estimate import processing_time_s
from app.api.request_context import RequestContext
from app.api.ttl_cache import TtlCache
from app.core.callers import Caller
from app.core.jobs.backlog import Backlog, BacklogLimits
from app.core.jobs.queue import ScoreQueue
from app.core.jobs.queue_status import QueueStatus
from app.core.problems import Problem
from app.core.redis.replicas import Replicas

log = logging.getLogger(__name__)

MIN_RETRY_S, MAX_RETRY_S = 1, 3600


@dataclass(frozen=True)
class AdmissionControl:
    """Refuses requests by the backlog and by quotas: `async with admission.admitted(request, caller):`.

    `limits` are those of a tenant with API keys. A service without keys has one tenant, who shares with nobody.
    """

    queue_status: QueueStatus
    queue: ScoreQueue
    quotas: Quotas
    limits: BacklogLimits
    backlog: TtlCache[Backlog]
    replicas: Replicas
    n_replicas: TtlCache[int]

    @asynccontextmanager
    async def admitted(self, request: Request, caller: Caller, *, jobs: int = 1) -> AsyncIterator[None]:
        """Admit a request that may create this many jobs; afterwards charge the bytes that the block has received.

        Raises `queue_full`, `queue_share_exceeded`, `quota_exceeded`, or `not_replicated` while replicas are away that
        must have a job. With `jobs=0`, for a repeated request, only bytes are limited. Test jobs wait in no queue.
        """
        # Without a declared length it is charged for one byte first, which a limit of bytes that is reached refuses.
        declared, context = max(declared_bytes(request), 1), RequestContext.of(request)
        if jobs and caller.livemode:
            await self._check_backlog(caller)
        if jobs:
            await self._check_replicas()
        if caller.key_id is not None:
            await run_in_threadpool(self._consume, context, caller, declared, jobs)
        try:
            yield
        finally:
            await asyncio.shield(
                asyncio.create_task(self._charge_actual_bytes(caller, context.received_bytes - declared))
            )

    def check_in_flight(self, caller: Caller, jobs: int) -> None:
        """Raise `quota_exceeded` where the caller may not have so many more unfinished jobs. Blocking."""
        status = self.quotas.consume(caller, jobs=jobs)
        if status:
            status.raise_if_exceeded()

    def limits_of(self, caller: Caller) -> BacklogLimits:
        """How much audio may wait when this caller sends more."""
        return self.limits if caller.key_id is not None else BacklogLimits(self.limits.max_audio_s)

    def queue_full(self) -> Problem:
        """The problem for a full queue, with the time after which there should be room. Blocking."""
        return self._refusal("queue_full", self.limits.total_excess_s(self.queue_status.backlog()))

    def queue_share_exceeded(self, caller: Caller) -> Problem:
        """The problem for a caller whose share of the queue is full. Blocking."""
        excess_s = self.limits_of(caller).tenant_excess_s(self.queue_status.backlog(), caller.tenant)
        return self._refusal("queue_share_exceeded", excess_s)

    def _refusal(self, code: str, excess_s: float) -> Problem:
        seconds = processing_time_s(max(excess_s, 0.0), self.queue_status.throughput(), self.queue.n_workers())
        if seconds is None:
            return Problem(code)
        retry_after_s = min(max(math.ceil(seconds), MIN_RETRY_S), MAX_RETRY_S)
        return Problem(code, headers={"Retry-After": str(retry_after_s)})

    async def _check_backlog(self, caller: Caller) -> None:
        backlog, limits = await self.backlog.get_async(), self.limits_of(caller)
        if limits.total_excess_s(backlog) >= 0:
            raise await run_in_threadpool(self.queue_full)
        if limits.tenant_excess_s(backlog, caller.tenant) >= 0:
            raise await run_in_threadpool(self.queue_share_exceeded, caller)

    async def _check_replicas(self) -> None:
        """Before the body is read: afterwards there would be a job to take back."""
        if self.replicas.needed and await self.n_replicas.get_async() < self.replicas.needed:
            raise Problem("not_replicated", "Too few replicas of Redis are there, so nothing was done.")

    def _consume(self, context: RequestContext, caller: Caller, n_bytes: int, jobs: int) -> None:
        status = self.quotas.consume(caller, n_bytes=n_bytes, jobs=jobs)
        if status:
            context.headers.update(status.headers())
            status.raise_if_exceeded()

    async def _charge_actual_bytes(self, caller: Caller, n_bytes: int) -> None:
        if n_bytes == 0 or caller.key_id is None:
            return
        try:
            await run_in_threadpool(self.quotas.consume, caller, n_bytes=n_bytes, force=True)
        except Exception:
            log.warning("uploaded bytes were not counted", exc_info=True)


def declared_bytes(request: Request) -> int:
    """The length that a request declares; 0 when it declares none, or a malformed one."""
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 19 else 0
