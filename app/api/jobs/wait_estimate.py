"""Wait estimates: when a queued job should start and end, from how much audio waits and how fast it is processed.

Pure arithmetic on measured numbers. Every result is an estimate; it is None where a number was never measured.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.core.jobs.backlog import Backlog
from app.core.jobs.models import Job, QueuePosition, Run
from app.core.jobs.queue import Worker

#: Bytes of a typical file that hold a second of sound: 16-bit stereo at 44.1 kHz, or a common bit rate.
BYTES_PER_S = {
    "wav": 176_400,
    "w64": 176_400,
    "aiff": 176_400,
    "caf": 176_400,
    "au": 176_400,
    "flac": 110_000,
    "mp3": 24_000,
    "mp4": 24_000,
    "ogg": 20_000,
    "aac": 16_000,
    "webm": 16_000,
    "ts": 20_000,
}
#: For a container that the table lacks: a low rate, because a track that proves shorter than thought does no harm.
OTHER_BYTES_PER_S = 16_000

#: Bounds of the time after which a client should poll again: short near the front of the queue, long far from it.
MIN_PACE_S, MAX_PACE_S = 1, 15
#: A longer time is no estimate, but a rate that makes no sense.
MAX_PROCESSING_S = 365 * 24 * 60 * 60.0
#: Polls that an expected wait is divided into.
POLLS_PER_WAIT = 4


def estimate_duration_s(container: str, n_bytes: int, max_duration_s: float) -> float:
    """How long a track of so many bytes probably is, guessed before it is decoded."""
    return round(min(n_bytes / BYTES_PER_S.get(container, OTHER_BYTES_PER_S), max_duration_s), 3)


def processing_time_s(audio_s: float, rate: float | None, n_workers: int) -> float | None:
    """How long the workers need for so much audio; None when no rate was measured or no worker is alive."""
    return min(audio_s / (rate * n_workers), MAX_PROCESSING_S) if rate and n_workers else None


def retry_after_s(wait_s: float | None, *, position: int) -> int:
    """Whole seconds until polling a job again is worthwhile; by its queue position when its wait is unknown."""
    pace_s = position if wait_s is None else wait_s / POLLS_PER_WAIT
    return round(min(max(pace_s, MIN_PACE_S), MAX_PACE_S))


@dataclass(frozen=True)
class QueueEstimate:
    """A queued job's position, and when it should start and end. Times are epoch seconds by Redis's clock."""

    position: int
    audio_seconds_ahead: float
    starts_in_s: float | None
    estimated_start_at: int | None
    estimated_done_at: int | None


@dataclass(frozen=True)
class QueueLoad:
    """How fast the service works, and on what, at the time `now`. `rate` is one worker's, in audio seconds a second.

    `n_workers` take jobs; `n_paused` more are alive and do not. `models` has them by the version of their model.
    """

    now: float
    rate: float | None
    n_workers: int
    running: Sequence[Run]
    backlog: Backlog = field(default_factory=Backlog)
    n_paused: int = 0
    models: Mapping[str, Sequence[Worker]] = field(default_factory=dict)

    @property
    def n_alive(self) -> int:
        """All workers, those that pause too."""
        return self.n_workers + self.n_paused

    def starts_at(self, audio_seconds_ahead: float) -> float | None:
        """When a worker should be free for a job with so much audio waiting before it.

        Counted from the start of the runs in progress, not from `now`: so the result is the same until a run ends.
        """
        busy_s = sum(run.audio_s for run in self.running)
        wait_s = processing_time_s(busy_s + audio_seconds_ahead, self.rate, self.n_workers)
        return None if wait_s is None else max(self._reference_time() + wait_s, self.now)

    def wait_s(self, audio_seconds_ahead: float) -> float | None:
        """How long from `now` until then."""
        start = self.starts_at(audio_seconds_ahead)
        return None if start is None else start - self.now

    def estimate(self, job: Job, position: QueuePosition) -> QueueEstimate:
        """The estimate for a queued job at this position."""
        ahead_s = self.backlog.audio_s_before(job.tenant, position.tenant_audio_s)
        start = self.starts_at(ahead_s)
        own_s = processing_time_s(job.estimated_s, self.rate, 1)
        return QueueEstimate(
            position=position.position,
            audio_seconds_ahead=round(ahead_s, 1),
            starts_in_s=None if start is None else start - self.now,
            estimated_start_at=None if start is None else math.ceil(start),
            estimated_done_at=None if start is None or own_s is None else math.ceil(start + own_s),
        )

    def _reference_time(self) -> float:
        # Busy workers have together worked since the mean of their starts; an idle one would start now.
        if not self.running or len(self.running) < self.n_workers:
            return self.now
        # None can have begun in the future: then the clock was set back.
        return sum(min(run.started_at, self.now) for run in self.running) / len(self.running)
