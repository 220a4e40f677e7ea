"""Waiting: a request held open until its job is over, which clients ask for with `Prefer: wait=N`."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.concurrency import run_in_threadpool
from starlette.types import Receive

from app.api.dependencies import Services
from app.api.jobs.notifications import Listener, TooManyListeners
from app.api.schemas.fields import timestamp
from app.api.schemas.job import Job
from app.core.jobs.models import Job as JobRecord
from app.core.jobs.models import now_s
from app.core.problems import Problem

_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?=[,;]|$)', re.IGNORECASE)


async def wait_until_done(
    services: Services, job_id: str, *, timeout_s: float, request: Request | None = None
) -> JobRecord:
    """The job once it is over, or as it is after `timeout_s`; at once when too many wait or the server stops.

    A client that leaves ends the wait of its `request`. Raises `job_expired` for a job that is gone, and Redis's own
    errors.
    """
    try:
        async with services.notifications.listen(job_id) as listener, _left(request, listener) as left:
            return await _wait(services, job_id, listener, left, deadline=time.monotonic() + timeout_s)
    except TooManyListeners:
        return await _read(services, job_id)


async def _wait(
    services: Services, job_id: str, listener: Listener, left: asyncio.Event, *, deadline: float
) -> JobRecord:
    while True:
        job = await _read(services, job_id)
        rest_s = deadline - time.monotonic()
        if job.status.done or rest_s <= 0 or services.notifications.closed or left.is_set():
            return job
        await listener.over(rest_s)


@asynccontextmanager
async def _left(request: Request | None, listener: Listener) -> AsyncIterator[asyncio.Event]:
    """Whether the client has left; it wakes the listener when it does."""
    left = asyncio.Event()

    async def watch(receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            """What is left of a body is of no interest."""
        left.set()
        listener.notify(ended=True)

    watcher = asyncio.create_task(watch(request.receive)) if request else None
    try:
        yield left
    finally:
        if watcher:
            watcher.cancel()


async def _read(services: Services, job_id: str) -> JobRecord:
    job = await run_in_threadpool(services.jobs.get, job_id)
    if job is None:
        raise Problem("job_expired", expired_at=timestamp(now_s()))
    return job


def preferred_wait_s(prefer: str | None, *, max_s: int) -> int:
    """The `wait` of a `Prefer` header, cut to the server's limit; 0 for a header without one that can be read."""
    found = _WAIT.search(prefer or "")
    return min(int(found[1]), max_s) if found else 0


# A coroutine although it awaits nothing: a plain function would cost a thread for each request.
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


#: How long the client would like to wait, 0 for not at all.
PreferWait = Annotated[int, Depends(_prefer_wait_s)]


def applied(wait_s: int, job: Job | JobRecord) -> dict[str, str]:
    """`Preference-Applied`, when a wait was asked for and the end of the job was seen."""
    return {"Preference-Applied": f"wait={wait_s}"} if wait_s and job.status.done else {}
