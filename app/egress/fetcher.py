"""Fetches the tracks of jobs that came with a URL, and hands them to the queue.

The record says what is to be fetched, and a lease by Redis's clock who does it; so a fetcher may be killed at any
moment, and several may run. Nothing of a URL is logged, or told to clients.
"""

import asyncio
import logging
import traceback
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from anyio import to_thread
from redis.exceptions import RedisError

from app.api.auth.rate_limits import Quotas
from app.api.concurrency import run_to_completion
from app.api.jobs.wait_estimate import estimate_duration_s
from app.api.submissions.create_job import COMPARED_S
from app.api.submissions.known_scores import with_known_scores
from app.api.uploads.receiver import Upload
from app.core.callers import Caller, Limits
from app.core.deployment import Deployment
from app.core.jobs.backlog import BacklogLimits
from app.core.jobs.models import FetchesExhausted, Job
from app.core.jobs.state_machine import JobStateMachine
from app.core.json_types import Json
from app.core.logging import logged_as
from app.core.problems import Problem
from app.core.redis.client import redis_now_s
from app.core.redis.replicas import unconfirmed_is_kept
from app.core.storage.partial_upload import storage_problems
from app.core.stored import Unreadable, set_aside
from app.egress.download import Downloader
from app.egress.setbacks import pause_s, setback

log = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 3
#: A fetcher says so often that it is there, and counts as there for so long.
SIGN_EVERY_S, SIGN_TTL_S = 20.0, 60
#: How often Redis is asked for work while there is none.
POLL_S = 0.5


class LostJob(Exception):
    """The job was canceled, deleted, or is another fetcher's."""


@dataclass(frozen=True)
class FetchTimes:
    """When a job is fetched again.

    lease_s : a fetcher that gives no sign of life for this long has lost its jobs
    pauses_s : before the second fetch of a job, the third, and so on; after the last of them there is none
    """

    lease_s: float = 15.0
    pauses_s: Sequence[float] = (1.0, 5.0, 30.0, 120.0, 300.0)

    @property
    def max_fetches(self) -> int:
        return len(self.pauses_s) + 1


FETCH_TIMES = FetchTimes()


@dataclass(frozen=True)
class FetchLimits:
    """How many tracks are fetched at a time, by all fetchers, and how much audio may wait in the queue."""

    max_fetches: int
    backlog: BacklogLimits
    max_duration_s: float
    times: FetchTimes = FETCH_TIMES


@dataclass(frozen=True)
class Fetcher:
    """`await fetcher.run(stop)` fetches until `stop` is set; what it has in hand then, another one begins anew."""

    machine: JobStateMachine
    downloader: Downloader
    deployment: Deployment
    quotas: Quotas
    model: Callable[[], Json | None]
    limits: FetchLimits

    async def run(self, stop: asyncio.Event) -> None:
        running, stopping = set[asyncio.Task[None]](), asyncio.create_task(stop.wait())
        living = asyncio.create_task(self._give_signs_of_life())
        try:
            while not stop.is_set():
                if len(running) < self.limits.max_fetches and (job := await self._next()):
                    running.add(asyncio.create_task(self._fetch(job)))
                    continue
                waited_for = {stopping, *running}
                await asyncio.wait(waited_for, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
                running = {task for task in running if not task.done()}
        finally:
            for task in (stopping, living, *running):
                task.cancel()
            await asyncio.wait({stopping, living, *running})

    async def _give_signs_of_life(self) -> None:
        while True:
            with suppress(RedisError):
                await to_thread.run_sync(self._give_sign_of_life)
            await asyncio.sleep(SIGN_EVERY_S)

    def _give_sign_of_life(self) -> None:
        self.machine.redis.set(self.machine.keys.fetcher, "", ex=SIGN_TTL_S)

    async def _next(self) -> Job | None:
        """The next job, its fetch begun; None while there is none, or Redis is away."""
        try:
            return await to_thread.run_sync(self._begin)
        except RedisError as error:
            log.warning("no track can be fetched now: %s", type(error).__name__)
            return None

    def _begin(self) -> Job | None:
        limits = self.limits
        found = self.machine.next_fetch(
            max_fetches=limits.max_fetches, lease_s=limits.times.lease_s, backlog=limits.backlog
        )
        if found is None:
            return None
        try:
            return self.machine.begin_fetch(found.id, tenant=found.tenant, max_fetches_of_job=limits.times.max_fetches)
        except FetchesExhausted:
            self._give_up(found.id)
        except Unreadable as error:
            set_aside(found.id, str(error))
        return None

    def _give_up(self, job_id: str) -> None:
        if job := self.machine.store.get(job_id):
            self._fail(job, Problem("url_unreachable", "Each fetch of the track ended with its process."))

    async def _fetch(self, job: Job) -> None:
        with logged_as(job.request_id, job.trace_id):
            try:
                await self._while_held(job, self._transfer(job))
            except asyncio.CancelledError:
                with suppress(RedisError):
                    await run_to_completion(self._hand_back, job)
                raise
            except LostJob:
                log.info("fetch dropped: its job has ended, or is another fetcher's", extra=_named(job))
            except RedisError as error:
                log.warning("fetch dropped: %s", type(error).__name__, extra=_named(job))
            except Exception as error:
                await self._settle(job, error)

    async def _while_held(self, job: Job, work: Coroutine[Any, Any, None]) -> None:
        """Do the work while the job is this fetcher's. Raises `LostJob` when it is no longer."""
        working, holding = asyncio.create_task(work), asyncio.create_task(self._hold(job))
        try:
            await asyncio.wait({working, holding}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise LostJob
        finally:
            for task in (working, holding):
                task.cancel()
            await asyncio.wait({working, holding})
        working.result()

    async def _hold(self, job: Job) -> None:
        """Renew the lease until the job is lost. While Redis is away nobody else can have taken it."""
        held = True
        while held:
            await asyncio.sleep(self.limits.times.lease_s / RENEWALS_PER_LEASE)
            with suppress(RedisError):
                held = await to_thread.run_sync(self._renew, job)

    def _renew(self, job: Job) -> bool:
        return self.machine.renew_fetch(job, lease_s=self.limits.times.lease_s)

    async def _transfer(self, job: Job) -> None:
        async with self.downloader.download(job) as upload:
            await run_to_completion(self._hand_over, job, upload)

    def _hand_over(self, job: Job, upload: Upload) -> None:
        """Queue the job, or end it with scores that are known. Raises `LostJob`."""
        upload.part.flush()
        audio = {"sha256": upload.part.sha256, "bytes": upload.part.size_bytes, "container": upload.container}
        fetched: Json = {"audio": audio, "timings": {"upload_s": upload.upload_s}}
        scored, embedding = self._with_known_scores(replace(job, **fetched))
        held = self._finish(job, scored, embedding) if scored.status.done else self._queue(job, upload, fetched)
        if not held:
            raise LostJob
        self._charge(job, upload.part.size_bytes)
        log.info("track fetched", extra=_named(job))

    def _with_known_scores(self, job: Job) -> tuple[Job, Json | None]:
        version = job.model_version or (self.model() or {}).get("version")
        return with_known_scores(job, self.machine.store, version) if version else (job, None)

    def _finish(self, job: Job, scored: Job, embedding: Json | None) -> bool:
        timings = scored.timings | {"total_s": round(max(redis_now_s(self.machine.redis) - job.created_at, 0.0), 3)}
        duration_s = scored.audio.get("duration_s", 0.0)  # as estimated: it takes nothing of the workers
        fields = {name: getattr(scored, name) for name in ("audio", "progress", "result", "model", "cached")}
        with unconfirmed_is_kept(job.id):
            return self.machine.succeed_fetch(
                job, **fields, timings=timings, estimated_s=duration_s, embedding=embedding
            )
        return True

    def _queue(self, job: Job, upload: Upload, fetched: Json) -> bool:
        part = upload.part
        with storage_problems():
            self.deployment.check_if_older(COMPARED_S)
        part.commit()
        estimated_s = estimate_duration_s(upload.container, part.size_bytes, self.limits.max_duration_s)
        # Where no answer comes, the job may have the audio; else it is deleted like any that no job needs.
        held = self.machine.end_fetch(job, storage_key=part.key, estimated_s=estimated_s, **fetched)
        if not held:
            self.downloader.storage.delete(part.key)
        return held

    def _charge(self, job: Job, n_bytes: int) -> None:
        """Count the bytes as an upload's are, for the key that sent the URL."""
        caller = Caller(job.tenant, job.key_id, limits=Limits(**(job.source or {}).get("limits", {})))
        try:
            self.quotas.consume(caller, n_bytes=n_bytes, force=True)
        except RedisError:
            log.warning("fetched bytes were not counted", extra=_named(job))

    async def _settle(self, job: Job, error: Exception) -> None:
        """Have the job fetched again, or end it, after a fetch that did not succeed."""
        back = setback(error)
        if back.problem.kind.code == "internal_error":  # not its text, which may show a URL
            frame = traceback.extract_tb(error.__traceback__)[-1]
            log.error("a fetch ended unexpectedly: %s in %s", type(error).__name__, frame.name, extra=_named(job))
        n_fetches = job.fetch - job.fetch_preemptions
        try:
            if back.is_final or (back.counted and n_fetches >= self.limits.times.max_fetches):
                await run_to_completion(self._fail, job, back.problem)
            else:
                pause = pause_s(self.limits.times.pauses_s, n_fetches, back)
                log.info("fetch failed, tried again: %s", back.problem.kind.code, extra=_named(job))
                await run_to_completion(self._try_later, job, pause, back.counted)
        except RedisError as redis_error:
            log.warning("what came of a fetch was not noted: %s", type(redis_error).__name__, extra=_named(job))

    def _fail(self, job: Job, problem: Problem) -> None:
        with unconfirmed_is_kept(job.id):
            if self.machine.fail_fetch(job, error=problem.object(attempts=job.fetch, request_id=job.request_id)):
                log.info("job failed: %s", problem.kind.code, extra=_named(job))

    def _try_later(self, job: Job, pause: float, counted: bool) -> None:
        self.machine.fetch_later(job, pause_s=pause, counted=counted)

    def _hand_back(self, job: Job) -> None:
        self.machine.fetch_later(job, pause_s=0.0, counted=False)


def _named(job: Job) -> Json:
    return {"job_id": job.id, "fetch": job.fetch}
