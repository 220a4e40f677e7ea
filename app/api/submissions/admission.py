"""The gate: whether a track may be sent now, decided before a byte of it is read.

Looked at again, atomically, when the job is made (`JobStore.create`): many may pass the gate at the same time.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from redis.exceptions import RedisError

from app.api.auth.rate_limits import Quotas
from app.api.jobs.wait_estimate import drain_s
from app.api.request_context import Trace
from app.api.ttl_cache import Recent
from app.core.callers import Caller
from app.core.jobs.queue import ScoreQueue
from app.core.jobs.store import JobStore, Place
from app.core.problems import Problem

log = logging.getLogger(__name__)

MIN_RETRY_S, MAX_RETRY_S = 1, 3600


@dataclass(frozen=True)
class Gate:
    """`async with gate.admitted(request, caller):` refuses, or counts what the block reads."""

    jobs: JobStore
    queue: ScoreQueue
    quotas: Quotas
    max_queued_audio_s: float
    waiting: Recent[Place]

    @asynccontextmanager
    async def admitted(self, request: Request, caller: Caller, *, jobs: int = 1) -> AsyncIterator[None]:
        """Pass a request that may lead to so many new jobs, and count its body's real bytes.

        Raises `queue_full` or `quota_exceeded`. A repeated request leads to none, and is only counted.
        """
        declared, trace = declared_bytes(request), Trace.of(request)
        if jobs:
            await self._refuse_when_full()
        if caller.key_id is not None:
            await run_in_threadpool(self._take, trace, caller, declared, jobs)
        try:
            yield
        finally:
            await asyncio.shield(asyncio.create_task(self._settle(caller, trace.received_bytes - declared)))

    def queue_full(self) -> Problem:
        """The refusal of more audio, with the time after which there should be room."""
        excess_s = self.jobs.waiting().audio_seconds_ahead - self.max_queued_audio_s
        seconds = drain_s(max(excess_s, 0.0), self.jobs.rate(), self.queue.n_workers())
        if seconds is None:
            return Problem("queue_full")
        retry_after_s = min(max(math.ceil(seconds), MIN_RETRY_S), MAX_RETRY_S)
        return Problem("queue_full", headers={"Retry-After": str(retry_after_s)})

    async def _refuse_when_full(self) -> None:
        waiting = await self.waiting.soon()
        if waiting.audio_seconds_ahead >= self.max_queued_audio_s:
            raise await run_in_threadpool(self.queue_full)

    def _take(self, trace: Trace, caller: Caller, n_bytes: int, jobs: int) -> None:
        standing = self.quotas.take(caller, n_bytes=n_bytes, jobs=jobs)
        if standing:
            trace.headers.update(standing.headers())
            standing.refuse_reached()

    async def _settle(self, caller: Caller, n_bytes: int) -> None:
        if n_bytes == 0 or caller.key_id is None:
            return
        try:
            await run_in_threadpool(self.quotas.take, caller, n_bytes=n_bytes, anyhow=True)
        except RedisError:
            log.warning("uploaded bytes were not counted", exc_info=True)


def declared_bytes(request: Request) -> int:
    """The length that a request declares, 0 when it declares none that can be read."""
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 19 else 0
