"""Which jobs a pass of the reconciler looks at: as few when 100,000 wait as when ten do.

Where RQ's list lacks a job that waits, that is mostly at the front: its id was taken and its run not begun, or begun
and given back. So a pass looks at all running jobs, at the front, and at one window further back, which moves on from
pass to pass. It looks at more windows only while the counts say that the list lacks more ids than were found.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Sequence

from app.core.jobs.queue import ScoreQueue
from app.core.jobs.unfinished import SLICE, UnfinishedJobs, Window, slices


class OrphanSearch:
    """Finds ids of unfinished jobs that RQ's list may lack. Begin each pass with `suspects`. Blocking."""

    def __init__(self, unfinished: UnfinishedJobs, queue: ScoreQueue) -> None:
        self.unfinished = unfinished
        self.queue = queue
        #: What this pass has seen in RQ's list.
        self.listed: set[str] = set()
        #: Of which nothing can be told, or that wait for workers of their model: what the list lacks for them is not
        #: looked for in each pass.
        self.unreadable: set[str] = set()
        self._is_complete = False
        self._next = 0
        self._is_filling = False

    def suspects(self, deadline: float) -> Iterator[Sequence[str]]:
        """Slices of ids to look at, no more of them after the deadline, but one window in any case.

        In the order of the queue, so that a lost one is filled from its front.
        """
        self.listed, self._is_complete = set(), False
        counts = self.unfinished.counts(self.queue)
        self.unreadable = self.unfinished.among(self.unreadable) if self.unreadable else set()
        ids = self._suspects(self._look(0))
        for running in slices(self.unfinished.running_ids()):
            yield self._unlisted(running)
        n_missing = counts.n_missing - len(self.unreadable)
        yield ids
        n_missing -= len(ids)
        if n_missing > 0 and not self._is_filling:
            self._next = 0  # from the front: an id whose neighbours are not in the list comes to its end
        first = start = self._next if self._next < counts.longest else 0
        while True:
            self._next = start + SLICE
            if start:
                ids = self._suspects(self._look(start))
                yield ids
                n_missing -= len(ids)
            start = self._next if self._next < counts.longest else 0
            self._is_filling = n_missing > 0 and start != first
            if not self._is_filling or time.monotonic() > deadline:
                return

    def is_listed(self, job_ids: Collection[str]) -> set[str]:
        """Those of some ids that are in RQ's list. Reads all of it, once a pass, for ids that are out of place."""
        if not self.listed.issuperset(job_ids) and not self._is_complete:
            self.listed, self._is_complete = self.unfinished.listed(self.queue), True
        return self.listed.intersection(job_ids)

    def _look(self, start: int) -> Window:
        window = self.unfinished.window(self.queue, start)
        self.listed |= window.listed
        return window

    def _suspects(self, window: Window) -> list[str]:
        waiting = set(window.waiting)
        strays = self.unfinished.strays([job_id for job_id in window.unfinished if job_id not in waiting])
        return self._unlisted([*window.waiting, *strays])

    def _unlisted(self, job_ids: Iterable[str]) -> list[str]:
        return [job_id for job_id in job_ids if job_id not in self.listed]
