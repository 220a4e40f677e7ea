"""Parts of a campaign that go wrong, for processes that import nothing else."""

import os
import time
from collections.abc import Iterator

from benchmarks.gpu.part import Part, Row, Setting, Task


def hanging(_: Setting) -> Iterator[Task]:
    yield Task("hangs", _hang)


def dying(_: Setting) -> Iterator[Task]:
    yield Task("dies", _die)


def working(_: Setting) -> Iterator[Task]:
    yield Task("works", lambda: [{"ms": 2.0}])


def _hang() -> list[Row]:
    time.sleep(600)
    return []


def _die() -> Iterator[Row]:
    yield {"before": "death"}
    os._exit(3)


PARTS = [Part("hanging", "", 1, hanging), Part("dying", "", 300, dying), Part("working", "", 300, working)]
