"""Server-sent events: what happens to a job, while it happens.

A stream begins with the whole job, or, for a client that names the last event it received, with the events after it.
It ends when the job ends, when its caller's key is revoked, or when the server stops.
"""

import logging
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import BaseModel
from redis.exceptions import RedisError
from starlette.types import Receive, Scope, Send

from app.api.auth.rate_limits import quota_exceeded
from app.api.dependencies import Services
from app.api.jobs.notifications import Listener, TenantTooManyListeners, TooManyListeners
from app.api.schemas.job import Job, ProgressEvent
from app.core.callers import Caller
from app.core.jobs.models import PROGRESS, Event
from app.core.jobs.models import Job as JobRecord
from app.core.problems import Problem
from app.core.redis.replicas import NotReplicated
from app.core.stored import Unreadable, set_aside
from model.domain import SEGMENT_S

log = logging.getLogger(__name__)

SNAPSHOT = "job.snapshot"
#: Events after which no more can follow.
ENDS = {"job.succeeded", "job.failed", "job.canceled", "job.purged"}

#: Silence after which a comment is sent, so that no proxy closes the connection as idle.
KEEP_ALIVE_S = 15.0
#: Progress is sent at most four times a second.
PROGRESS_GAP_S = 0.25

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
#: The id of a snapshot that no event came before.
BEFORE_FIRST = "0-0"
_EVENT_ID = re.compile(r"\d{1,18}-\d{1,18}")


class JobEventFeed:
    """The events of a job that one client has not received yet. Blocking.

    `after` is the id of the last event that it received; one that is no longer kept counts as none.
    """

    def __init__(self, services: Services, job: JobRecord, *, after: str | None) -> None:
        self.services = services
        self.job_id = self.subject_id = job.id
        self.after = after if after and self._has_event(after) else None
        self.finished = bool(self.after) and job.status.done and not self._events()
        self._all = bool(self.after)

    def read(self) -> list[bytes]:
        """The next events as frames. Afterwards `finished` is set if no more can follow."""
        return self._new_frames() if self.after else self._snapshot()

    def _has_event(self, event_id: str) -> bool:
        if event_id == BEFORE_FIRST:
            return True
        return bool(_EVENT_ID.fullmatch(event_id)) and self.services.jobs.has_event(self.job_id, event_id)

    def _events(self) -> list[Event]:
        return self.services.jobs.events(self.job_id, after=self.after or "-")

    def _snapshot(self) -> list[bytes]:
        events = self._events()  # before the record: what happens in between is then sent twice rather than never
        job = self._job()
        if job is None:
            return []
        if job.done:
            last = self._events()[-1:]
            return [
                encode_event(SNAPSHOT, job),
                *self._end(last[0] if last else Event("0-1", f"job.{job.status}", {}), job),
            ]
        self.after = events[-1].id if events else BEFORE_FIRST
        return [encode_event(SNAPSHOT, job, id=self.after)]

    def _new_frames(self) -> list[bytes]:
        events = self._events()
        if not events:
            self._job()
            return []
        # A client that reconnects gets all that it missed; afterwards only the latest, which supersedes those before.
        sent = events if self._all else events[-1:]
        self._all, self.after = False, events[-1].id
        return [frame for event in sent for frame in self._event_frames(event)]

    def _event_frames(self, event: Event) -> list[bytes]:
        if event.name == PROGRESS:
            return self._progress(event)
        # Another than those that end a job is of a newer version.
        return self._end(event, self._job()) if event.name in ENDS else []

    def _progress(self, event: Event) -> list[bytes]:
        try:
            return [encode_event(PROGRESS, progress(event, self.services.queue_status.throughput()), id=event.id)]
        except (ValueError, TypeError, LookupError) as error:
            set_aside(self.job_id, f"an event cannot be shown: {type(error).__name__}")
            return []

    def _end(self, event: Event, job: Job | None) -> list[bytes]:
        self.finished = True
        return [encode_event(event.name, job, id=event.id)] if job else []

    def _job(self) -> Job | None:
        job = self.services.jobs.get(self.job_id)
        self.finished = job is None
        return self.services.job_service.view(job) if job else None


class Feed(Protocol):
    """The events of something, which changes of the channel of `subject_id` tell of. `read` is blocking."""

    services: Services
    subject_id: str
    finished: bool

    def read(self) -> list[bytes]: ...


class EventStream(StreamingResponse):
    """The response that sends a feed. Its listener is removed when the response ends, however it ends.

    `reauthenticate` is called before events are read, blocking; the stream ends when it raises a `Problem`.
    """

    media_type = "text/event-stream"

    def __init__(self, feed: Feed, caller: Caller, *, reauthenticate: Callable[[], None]) -> None:
        super().__init__((), headers=_HEADERS)
        self.feed = feed
        self.caller = caller
        self.reauthenticate = reauthenticate
        self.notifications = feed.services.notifications

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with (
                self.notifications.listen(self.feed.subject_id, self.caller) as listener,
                aclosing(self._frames(listener)) as frames,
            ):
                self.body_iterator = frames
                await super().__call__(scope, receive, send)
        except TenantTooManyListeners:
            raise quota_exceeded("listeners") from None
        except TooManyListeners:
            raise Problem("too_many_listeners") from None

    async def _frames(self, listener: Listener) -> AsyncGenerator[bytes]:
        while True:
            for frame in await self._read():
                yield frame
            if self.feed.finished or self.notifications.closed:
                return
            await listener.wait_end(PROGRESS_GAP_S)
            if not await listener.wait_update(KEEP_ALIVE_S):
                yield KEEPALIVE_COMMENT

    async def _read(self) -> list[bytes]:
        try:
            return await run_in_threadpool(self._read_if_allowed)
        except (RedisError, Problem, Unreadable, NotReplicated) as error:
            # The status was sent long ago. The client will reconnect, and that request gets the error.
            log.warning("event stream ended: %s: %s", type(error).__name__, error)
            self.feed.finished = True
            return []

    def _read_if_allowed(self) -> list[bytes]:
        self.reauthenticate()
        return self.feed.read()


def encode_event(name: str, data: BaseModel, *, id: str | None = None) -> bytes:
    """One event in the format of server-sent events."""
    return format_sse_event(event=name, data_str=data.model_dump_json(by_alias=True), id=id)


def progress(event: Event, rate: float | None) -> ProgressEvent:
    """How far a run is, and how long the rest of it should take. `rate` is one worker's, in audio seconds a second."""
    done, total = event.data["segments_done"], event.data["segments_total"]
    eta_s = round((total - done) * SEGMENT_S / rate, 1) if total and rate else None
    ratio = round(done / total, 3) if total else 0.0
    return ProgressEvent.model_validate({**event.data, "ratio": ratio, "eta_s": eta_s})
