"""Downloads: the track at a URL, read into storage as an upload is, within the same limits."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from anyio import CapacityLimiter, to_thread

from app.api.schemas.options import TrackOptions
from app.api.uploads.receiver import WRITERS, AudioWriter, Upload, UploadLimits
from app.core.egress_rules import EgressRules
from app.core.jobs.models import Job
from app.core.problems import Problem
from app.core.storage.partial_upload import storage_problems
from app.core.storage.protocol import Storage

HEADERS = {"Accept": "audio/*, */*;q=0.5", "Accept-Encoding": "identity"}


class UnexpectedStatus(Exception):
    """The host answered with another status than 200. `retry_after` is its header of that name."""

    def __init__(self, status: int, retry_after: str | None = None) -> None:
        super().__init__(status)
        self.status, self.retry_after = status, retry_after


@dataclass(frozen=True)
class Downloader:
    """Reads the tracks of jobs that have a source."""

    client: httpx.AsyncClient
    rules: EgressRules
    storage: Storage
    limits: UploadLimits
    _writers: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(WRITERS))

    @asynccontextmanager
    async def download(self, job: Job) -> AsyncIterator[Upload]:
        """The track of a job, complete and not committed; what the block does not commit is deleted.

        Its key in storage is of this fetch alone. Raises `EgressForbidden`, `UnexpectedStatus`, `Problem`s as an upload
        does, `httpx.TransportError`, and `TimeoutError`.
        """
        url, started = str((job.source or {}).get("url")), time.monotonic()
        self.rules.check_url(url)
        await to_thread.run_sync(self._require_room, limiter=self._writers)
        part = self.storage.receive(f"{job.id}-{job.fetch}")
        audio = AudioWriter(job.id, part, max_bytes=self.limits.max_bytes, writers=self._writers)
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                await self._read(url, audio)
            yield audio.upload(TrackOptions(), round(time.monotonic() - started, 3))
        finally:
            await audio.discard()

    async def _read(self, url: str, audio: AudioWriter) -> None:
        async with self.client.stream("GET", url, headers=HEADERS) as response:
            check_head(response, max_bytes=self.limits.max_bytes)
            async for chunk in response.aiter_raw():
                audio.feed(chunk)
                await audio.drain()

    def _require_room(self) -> None:
        """As for an upload: room for one of the largest, and for one more."""
        with storage_problems():
            free_bytes = self.storage.free_bytes()
        if free_bytes <= 2 * self.limits.max_bytes:
            raise Problem("storage_full")


def check_head(response: httpx.Response, *, max_bytes: int) -> None:
    """Refuse an answer by its head. A length that it does not declare, or declares wrongly, is counted anyway."""
    if response.status_code != httpx.codes.OK:
        raise UnexpectedStatus(response.status_code, response.headers.get("retry-after"))
    if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Problem("unsupported_media_type", "The answer has a Content-Encoding that was not asked for.")
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise Problem("payload_too_large", limit_bytes=max_bytes)
