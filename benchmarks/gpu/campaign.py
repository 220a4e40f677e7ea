"""Runs the parts one after the other, within one time for all, and keeps what they report."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import psutil

from benchmarks.gpu.part import Kind, Part, Setting, run
from benchmarks.gpu.record import PartRecord, Record

#: When the last task may begin. With what it takes then, and the packages before, a campaign is over in 480 s.
TOTAL_S = 430.0
#: For a part on a machine that may be busy with other things, where nothing is measured.
REHEARSAL_S = 600.0
#: What a task that is under way may take beyond the part's budget, and then what ending it may.
OVERTIME_S, ENDING_S = 12.0, 8.0
#: Imported once, in the process that the parts' processes are forked from. Nothing of it touches a device.
PRELOADED = ["torch", "transformers.models.hubert.modeling_hubert", "model.inference.scorer", "benchmarks.gpu.parts"]


def campaign(parts: Sequence[Part], setting: Setting, record: Record, say: Callable[[str], None]) -> None:
    """Run every part. On a device a part has its own budget and what those before it left over."""
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    began, planned_s = time.monotonic(), 0.0
    for part in parts:
        planned_s += part.budget_s if setting.on_device else REHEARSAL_S
        left_s = max(min(planned_s, TOTAL_S if setting.on_device else planned_s) - (time.monotonic() - began), 0.0)
        record.parts[part.name] = kept = PartRecord(part.title)
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=run, args=(part, setting, left_s, theirs))
        started = time.monotonic()
        process.start()
        theirs.close()
        _collect(process, ours, kept, record, left_s + OVERTIME_S)
        kept.seconds = time.monotonic() - started
        record.write()
        say(kept.markdown())


def _collect(process: BaseProcess, connection: Connection, kept: PartRecord, record: Record, limit_s: float) -> None:
    """Keep what the process reports until it has ended; after the limit it is interrupted, then killed."""
    deadline, interrupted = time.monotonic() + limit_s, False
    while True:
        try:
            if connection.poll(max(deadline - time.monotonic(), 0.0)):
                kept.add(connection.recv())
                record.write()
                continue
        except (EOFError, OSError):
            break
        if interrupted:
            kept.add((Kind.FAILED, "killed", "it did not end when it was interrupted"))
            break
        os.kill(process.pid or 0, signal.SIGINT)
        deadline, interrupted = time.monotonic() + ENDING_S, True
    process.join(0.0 if interrupted else ENDING_S)
    if process.exitcode not in (0, None):
        kept.add((Kind.FAILED, "process", f"it ended with status {process.exitcode}"))
    _end(process)


def _end(process: BaseProcess) -> None:
    """Kill what is left of a part's process and of all that it has started, servers in sessions of their own too."""
    with suppress(psutil.NoSuchProcess):
        for started in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                started.kill()
    process.kill()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.join()
