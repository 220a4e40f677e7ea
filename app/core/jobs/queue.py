"""The queue: the only code of the front end that knows RQ. It carries job ids and nothing else."""

from datetime import UTC, datetime, timedelta

from redis import Redis
from redis.client import Pipeline
from rq import Queue
from rq.exceptions import DuplicateJobError
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer
from rq.utils import utcparse
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from app.core.jobs.store import text

#: The one task there is. A name in the queue, not of a module: what an older version enqueued must still run.
TASK_NAME = "worker.tasks.score_track"

#: RQ is told to forget soon: its status is never shown to anybody.
STALE_RQ_STATE_TTL_S = 300

#: A worker says every few seconds that it lives, busy or not.
HEARTBEAT_MAX_AGE_S = 20


class ScoreQueue:
    """Puts job ids where a worker will find them. Enqueuing an id twice keeps one.

    How often and for how long a job may run is not said here: a worker believes its own settings and the record.
    """

    def __init__(self, redis: Redis, *, name: str) -> None:
        self.rq = Queue(name, connection=redis, serializer=JSONSerializer)

    def enqueue(self, job_id: str, *, at_front: bool = False) -> bool:
        """Queue a job; False when RQ has it already."""
        try:
            self.rq.enqueue(TASK_NAME, job_id=job_id, unique=True, description=job_id, at_front=at_front)
        except DuplicateJobError:
            return False
        return True

    def add_to(self, pipe: Pipeline, job_id: str) -> None:
        """Have a pipeline queue a job whose id is new, so that nobody else can have queued it."""
        # `enqueue` with a pipeline insists on being its first command.
        self.rq.enqueue_many([Queue.prepare_data(TASK_NAME, job_id=job_id, description=job_id)], pipeline=pipe)

    def forget(self, job_id: str) -> None:
        """Drop a job that waits; one that a worker has taken is left alone."""
        if self.rq.connection.lrem(self.rq.key, 1, job_id):
            self.rq.connection.delete(RqJob.key_for(job_id))

    def n_workers(self) -> int:
        """Workers that gave a sign of life lately."""
        # RQ keeps the key of a worker that was killed for more than a minute; its own last sign is seconds old at most.
        oldest = datetime.now(UTC) - timedelta(seconds=HEARTBEAT_MAX_AGE_S)
        with self.rq.connection.pipeline(transaction=False) as pipe:
            for key in self.rq.connection.smembers(WORKERS_BY_QUEUE_KEY % self.rq.name):
                pipe.hget(key, "last_heartbeat")
            return sum(beat is not None and utcparse(text(beat)) > oldest for beat in pipe.execute())

    def depth(self) -> int:
        """Jobs waiting, not counting those that run."""
        return len(self.rq)
