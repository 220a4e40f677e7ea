"""Long polling: a response held back until the job has ended, for clients that ask so with `Prefer: wait=N`."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.concurrency import run_in_threadpool
from starlette.types import Receive

from app.api.dependencies import Services
from app.api.jobs.notifications import Listener, TooManyListeners
from app.api.schemas.job import Job
from app.core.callers import Caller
from app.core.jobs.models import Job as JobRecord

_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?=[,;]|$)', re.IGNORECASE)

#: Reads the job that is waited for. Raises as `JobService.get` does.
Read = Callable[[], Awaitable[JobRecord]]


async def wait_until_done(
    services: Services, caller: Caller, job_id: str, *, timeout_s: float, request: Request | None = None
) -> JobRecord:
    """Wait until a job has ended, at most for `timeout_s`; returns it as it is then.

    Does not wait when too many clients wait already, in all or of this tenant, or the server stops. The wait also ends
    when the client of `request` disconnects. Raises as `JobService.get` does, and Redis's own errors.
    """
    read, deadline = partial(run_in_threadpool, services.job_service.get, caller, job_id), time.monotonic() + timeout_s
    try:
        async with (
            services.notifications.listen(job_id, caller) as listener,
            _disconnection(request, listener) as disconnected,
        ):
            return await _wait(services, read, listener, disconnected, deadline=deadline)
    except TooManyListeners:
        return await read()


async def _wait(
    services: Services, read: Read, listener: Listener, disconnected: asyncio.Event, *, deadline: float
) -> JobRecord:
    while True:
        job = await read()
        remaining_s = deadline - time.monotonic()
        if job.status.done or remaining_s <= 0 or services.notifications.closed or disconnected.is_set():
            return job
        await listener.wait_end(remaining_s)


@asynccontextmanager
async def _disconnection(request: Request | None, listener: Listener) -> AsyncIterator[asyncio.Event]:
    """An event that is set, and the listener notified, when the client disconnects."""
    disconnected = asyncio.Event()

    async def watch(receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            """Ignore the rest of the body."""
        disconnected.set()
        listener.notify(ended=True)

    watcher = asyncio.create_task(watch(request.receive)) if request else None
    try:
        yield disconnected
    finally:
        if watcher:
            watcher.cancel()


def preferred_wait_s(prefer: str | None, *, max_s: int) -> int:
    """The `wait` of a `Prefer` header, at most `max_s`; 0 for a header without one that can be parsed."""
    match = _WAIT.search(prefer or "")
    return min(int(match[1]), max_s) if match else 0


# A coroutine although it awaits nothing: FastAPI would run a plain function in a thread, for each request.
async def _prefer_wait_s(
    request: Request,
    prefer: Annotated[
        str | None,
        Header(
            alias="Prefer",
            description="`wait=N`: answer when the job is over, or after N seconds, whichever is first.",
            examples=["wait=20"],
        ),
    ] = None,
) -> int:
    return preferred_wait_s(prefer, max_s=request.app.state.services.settings.max_wait_s)


#: How many seconds the client asks to wait; 0 when it does not ask.
PreferWait = Annotated[int, Depends(_prefer_wait_s)]


def applied(wait_s: int, job: Job | JobRecord) -> dict[str, str]:
    """`Preference-Applied`, when a wait was asked for and the job has ended."""
    return {"Preference-Applied": f"wait={wait_s}"} if wait_s and job.status.done else {}
