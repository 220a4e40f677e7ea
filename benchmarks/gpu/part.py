"""A part of the campaign: tasks that give rows, one after the other. A task that fails does not end the part."""

import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any

Row = dict[str, Any]


class Kind(StrEnum):
    """What a part reports."""

    ROW = "row"
    SPENT = "processor seconds, children included"
    REHEARSED = "rehearsed"
    FAILED = "failed"
    NO_DEVICE = "left to a device"
    NO_PACKAGE = "a package was missing for this"
    NO_TIME = "there was no time for this"


#: A kind, the name of the task, and a row or a text.
Report = tuple[Kind, str, Row | str]


@dataclass(frozen=True)
class Setting:
    """What all parts work with. On a CPU the weights are tiny, the tracks short, and the figures mean nothing."""

    device: str  # cuda or cpu
    folder: Path  # scratch: weights and tracks
    out: Path  # for files that are kept

    @property
    def on_device(self) -> bool:
        return self.device != "cpu"

    @property
    def shortest_s(self) -> float:
        """How long each of many measurements takes; 0 where one call will do."""
        return 0.4 if self.on_device else 0.0

    @property
    def weights(self) -> Path:
        """Stand-in weights, of the published size on a device."""
        return self.folder / "weights"

    @property
    def flat_weights(self) -> Path:
        """The same with a head whose scores hardly move, so that the probe lets every precision pass."""
        return self.folder / "flat-weights"

    @property
    def segments_a_track(self) -> int:
        return 6 if self.on_device else 1

    @property
    def track(self) -> Path:
        """An MP3 file: 3 minutes in stereo on a device."""
        return self.folder / "track.mp3"


@dataclass(frozen=True)
class Task:
    """One measurement, or several that belong together."""

    name: str
    run: Callable[[], Iterable[Row]]
    needs_device: bool = False
    needs_package: str = ""


@dataclass(frozen=True)
class Part:
    """`tasks` prepares what they share, then yields them, the most important first."""

    name: str
    title: str
    budget_s: float
    tasks: Callable[[Setting], Iterator[Task]]


def run(part: Part, setting: Setting, budget_s: float, connection: Connection) -> None:
    """Run a part in this process, which leads a group, and send what it reports. No task begins after the budget."""
    os.setpgid(0, 0)
    for report in reports(part, setting, time.monotonic() + budget_s):
        connection.send(report)
    connection.send((Kind.SPENT, part.name, f"{_processor_s():.1f}"))
    connection.close()


def _processor_s() -> float:
    return sum(sum(getrusage(who)[:2]) for who in (RUSAGE_SELF, RUSAGE_CHILDREN))


def reports(part: Part, setting: Setting, deadline: float) -> Iterator[Report]:
    """What the tasks give, and why others give nothing."""
    try:
        for task in part.tasks(setting):
            if task.needs_device and not setting.on_device:
                yield Kind.NO_DEVICE, task.name, ""
            elif task.needs_package and find_spec(task.needs_package) is None:
                yield Kind.NO_PACKAGE, task.name, task.needs_package
            elif time.monotonic() >= deadline:
                yield Kind.NO_TIME, task.name, ""
            else:
                yield from _reports(task, setting)
    except (Exception, KeyboardInterrupt):
        yield Kind.FAILED, part.name, traceback.format_exc()


def _reports(task: Task, setting: Setting) -> Iterator[Report]:
    try:
        for row in task.run():
            yield Kind.ROW, task.name, row
    except Exception:
        yield Kind.FAILED, task.name, traceback.format_exc()
    else:
        if not setting.on_device:
            yield Kind.REHEARSED, task.name, ""
