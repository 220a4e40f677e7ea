"""The queue: the only code of the front end that knows RQ. It carries job ids and nothing else."""

from redis import Redis
from rq import Queue, Retry
from rq.exceptions import DuplicateJobError
from rq.serializers import JSONSerializer

#: The one task there is, by name, because the front end must not import the worker's code.
TASK_NAME = "worker.tasks.score_track"

#: RQ is told to forget soon: its status is never shown to anybody.
RESIDUE_TTL_S = 300


class ScoreQueue:
    """Puts job ids where a worker will find them. Enqueuing an id twice keeps one."""

    def __init__(self, redis: Redis, *, name: str, timeout_s: int, max_attempts: int) -> None:
        self.rq = Queue(name, connection=redis, serializer=JSONSerializer)
        self.timeout_s = timeout_s
        self.max_attempts = max_attempts

    def enqueue(self, job_id: str) -> bool:
        """Queue a job; False when RQ has it already."""
        try:
            self.rq.enqueue(
                TASK_NAME,
                job_id,
                job_id=job_id,
                unique=True,
                description=job_id,
                job_timeout=self.timeout_s,
                retry=Retry(max=self.max_attempts - 1) if self.max_attempts > 1 else None,
                result_ttl=0,
                failure_ttl=RESIDUE_TTL_S,
            )
        except DuplicateJobError:
            return False
        return True

    def depth(self) -> int:
        """Jobs waiting, not counting those that run."""
        return len(self.rq)
