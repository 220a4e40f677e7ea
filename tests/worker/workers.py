"""The real worker around a task of the test."""

from worker.rq.worker import ScoringWorker
from worker.score_track import ScoreTrack


def worker(
    task: ScoreTrack,
    *,
    queue_name: str = "scores",
    heartbeat_ttl_s: int = 1,
    grace_s: float = 20.0,
    job_timeout_s: int = 60,
) -> ScoringWorker:
    return ScoringWorker(
        queue_name,
        connection=task.machine.redis,
        task=task,
        job_timeout_s=job_timeout_s,
        heartbeat_ttl_s=heartbeat_ttl_s,
        grace_s=grace_s,
    )
