"""The queue of RQ. It carries job ids and nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from redis import Redis
from rq import Queue
from rq.job import Job as RqJob
from rq.job import JobStatus
from rq.serializers import JSONSerializer
from rq.utils import utcformat, utcparse
from rq.worker import WorkerStatus
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY

from app.core import stored
from app.core.redis.client import epoch_s, text

#: The one task there is. A name in the queue, not of a module: what an older version enqueued must still run.
TASK_NAME = "worker.tasks.score_track"
#: The call of the task, as RQ serialises function, instance, arguments and keyword arguments.
TASK_CALL = JSONSerializer.dumps((TASK_NAME, None, (), {})).decode()

#: RQ keeps its own state of a failed job this long. Nothing here reads it.
STALE_RQ_STATE_TTL_S = 300

#: A worker sends a heartbeat every few seconds, busy or not.
HEARTBEAT_MAX_AGE_S = 20
#: The field of RQ's hash of a worker with the time of its last heartbeat by Redis's clock.
HEARTBEAT_AT = "heartbeat_at"
#: Fields with its model's version, the device that runs it, and as JSON the layers that its decoder's sandbox lacks.
MODEL_VERSION = "model_version"
DEVICE = "device"
MISSING_LAYERS = "missing_layers"


def beat_at(by_redis: bytes | None, by_worker: bytes | None) -> float:
    """When a worker last gave a sign of life; an older version knows only its own clock. Long ago where neither is."""
    at = stored.number(HEARTBEAT_AT, by_redis)
    if at is not None:
        return at
    try:
        return float(utcparse(text(by_worker or b"")).timestamp())
    except (ValueError, OverflowError):
        return 0.0


class ScoreQueue:
    """Names what RQ keeps of queued job ids, and counts the workers that take them. `JobStateMachine` queues them.

    How often and for how long a job may run is not part of an entry: a worker goes by its settings and the record.
    """

    def __init__(self, redis: Redis, *, name: str) -> None:
        self.rq = Queue(name, connection=redis, serializer=JSONSerializer)

    def keys(self, job_id: str) -> list[str]:
        """What queuing a job touches: RQ's set of queues, its list of ids, and its hash of the job."""
        return [self.rq.redis_queues_keys, self.rq.key, RqJob.key_for(job_id)]

    def model_queue_key(self, model_version: str) -> str:
        """The list of ids that wait for workers of this model, because one of another came to them."""
        return f"{self.rq.key}:model:{model_version}"

    def shared_types(self) -> dict[str, str]:
        """The types of the keys that RQ keeps for all jobs of the queue."""
        return {
            self.rq.redis_queues_keys: "set",
            self.rq.key: "list",
            self.rq.intermediate_queue_key: "list",
            self.rq.started_job_registry.key: "zset",
            self.rq.failed_job_registry.key: "zset",
            WORKERS_BY_QUEUE_KEY % self.rq.name: "set",
            REDIS_WORKER_KEYS: "set",
        }

    def job_fields(self, job_id: str) -> dict[str, str]:
        """The hash that RQ keeps of a queued job, less what is empty. `shared/queue.lua` writes it with the list."""
        now = utcformat(datetime.now(UTC))
        return {
            "status": JobStatus.QUEUED,
            "created_at": now,
            "enqueued_at": now,
            "origin": self.rq.name,
            "description": job_id,
            "data": TASK_CALL,
            "timeout": str(Queue.DEFAULT_TIMEOUT),
        }

    def next_id(self) -> str | None:
        """The job that a worker takes next, as long as no other goes ahead of it."""
        first = stored.read(self.rq.connection.lrange, self.rq.key, 0, 0)
        return text(first[0]) if first else None

    def enqueued_at(self, job_ids: Iterable[str]) -> list[str]:
        """When RQ was given each job, as it keeps it; '' for one of which it keeps nothing. In one round trip."""
        keys = [RqJob.key_for(job_id) for job_id in job_ids]
        with self.rq.connection.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hget(key, "enqueued_at")
            return [text(at or b"") for at in stored.read_all(pipe, keys)]

    def n_workers(self) -> int:
        """Workers that take jobs."""
        return self.workers().active

    def workers(self) -> "Workers":
        """The workers whose last heartbeat is recent, by Redis's clock. In two round trips."""
        redis: Redis = self.rq.connection
        keys = [text(key) for key in stored.read(redis.smembers, WORKERS_BY_QUEUE_KEY % self.rq.name) or ()]
        with redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hmget(
                    key, HEARTBEAT_AT, "last_heartbeat", "state", MODEL_VERSION, MISSING_LAYERS, DEVICE, "hostname"
                )
            pipe.time()
            *found, time = stored.read_all(pipe, [*keys, "TIME"])
        now = epoch_s(*time)
        # RQ keeps the key of a killed worker for more than a minute; a live one's heartbeat is seconds old at most. One
        # of the future was sent before Redis's clock was set back.
        alive = (worker[2:] for worker in found if worker and abs(now - beat_at(*worker[:2])) < HEARTBEAT_MAX_AGE_S)
        return Workers(tuple(_worker(*values) for values in alive))


@dataclass(frozen=True)
class Worker:
    """A worker that is alive: whether it pauses because its machine is at fault, and what it says of itself.

    Of a worker of an older version neither its model and device nor the layers are known that its decoder's sandbox
    lacks.
    """

    is_paused: bool = False
    model_version: str | None = None
    missing_layers: tuple[str, ...] | None = None
    device: str | None = None
    host: str | None = None


@dataclass(frozen=True)
class Workers:
    """The workers that are alive."""

    alive: Sequence[Worker] = ()

    @property
    def paused(self) -> int:
        """How many pause."""
        return sum(worker.is_paused for worker in self.alive)

    @property
    def active(self) -> int:
        """How many take jobs."""
        return len(self.alive) - self.paused

    @property
    def models(self) -> Mapping[str, Sequence[Worker]]:
        """Those that say which model they run, by its version."""
        versions = sorted({worker.model_version for worker in self.alive if worker.model_version})
        return {version: [each for each in self.alive if each.model_version == version] for version in versions}


def _worker(
    state: bytes | None,
    model_version: bytes | None,
    missing_layers: bytes | None,
    device: bytes | None,
    host: bytes | None,
) -> Worker:
    missing = stored.json_value(MISSING_LAYERS, missing_layers)
    return Worker(
        is_paused=state == WorkerStatus.SUSPENDED.encode(),
        model_version=text(model_version) if model_version else None,
        missing_layers=tuple(map(str, missing)) if isinstance(missing, list) else None,
        device=text(device) if device else None,
        host=text(host) if host else None,
    )
