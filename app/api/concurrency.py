"""Blocking work that must not be abandoned halfway."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from fastapi.concurrency import run_in_threadpool

T = TypeVar("T")


async def run_to_completion(work: Callable[..., T], *arguments: object) -> T:
    """Run blocking work in a thread and return its result, even when the task is cancelled meanwhile.

    The cancellation is then dropped: a job that was created must not be reported as refused.
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
