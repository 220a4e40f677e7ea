"""Job records in every state, without an upload or a worker."""

from contextlib import suppress
from typing import Any

from redis import Redis
from rq.exceptions import DuplicateJobError

from app.api.auth.api_keys import KeyStore
from app.api.dependencies import Services
from app.core.callers import SCOPES
from app.core.jobs.models import Job, new_job_id
from app.core.jobs.queue import TASK_NAME, ScoreQueue
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.unfinished import UnfinishedJobs
from tests.conftest import KEYS

WORKER_KEY = "rq:worker:test"
RESULT = {"scores": {"clarity": 3.1416}, "ranges": {"clarity": [1.0, 5.0]}}
#: What a client reads of it.
SHOWN = RESULT | {"warnings": [], "percentiles": None, "segments": None, "basis": None, "spread": None}
MODEL = {"name": "apex", "version": "apex-1.0.0", "trained": True}


def queued(jobs: JobStateMachine, **values: Any) -> Job:
    job_id = new_job_id()
    return jobs.create(Job(id=job_id, storage_key=job_id, **values))[0]


def running(jobs: JobStateMachine, **values: Any) -> Job:
    """A job that a worker has taken from the queue."""
    job = queued(jobs, **values)
    _, queue, rq_job = jobs.queue.keys(job.id)
    jobs.redis.lrem(queue, 0, job.id)
    jobs.redis.delete(rq_job)
    run = jobs.start(job.id, max_attempts=3, lease_s=60)
    assert run
    return run


def succeeded(jobs: JobStateMachine, **values: Any) -> Job:
    run = running(jobs, **values)
    jobs.succeed(run, result=RESULT, model=MODEL)
    return found(jobs, run)


def found(jobs: JobStateMachine, job: Job) -> Job:
    record = jobs.store.get(job.id)
    assert record
    return record


def report(jobs: JobStateMachine, run: Job, done: int, total: int = 7) -> None:
    jobs.report(run, progress={"stage": "embedding", "segments_done": done, "segments_total": total})


def enqueue_by_rq(queue: ScoreQueue, job_id: str) -> None:
    """What RQ itself does to queue a job, as older versions had it do."""
    with suppress(DuplicateJobError):
        queue.rq.enqueue(TASK_NAME, job_id=job_id, unique=True, description=job_id)


def expire(jobs: JobStateMachine, job: Job) -> None:
    """What Redis does when the time of a finished job is over."""
    jobs.redis.delete(f"apex:job:{job.id}", f"apex:events:{job.id}")


def stored_audio(services: Services, job: Job) -> None:
    """A file under the job's key."""
    with services.storage.receive(job.storage_key) as part:
        part.append(b"audio")
        part.commit()


def live_worker(redis: Redis, *, beat: str, name: str = WORKER_KEY, state: str = "idle") -> None:
    """What RQ keeps of a worker that listens to the queue."""
    redis.sadd("rq:workers:scores", name)
    redis.hset(name, mapping={"last_heartbeat": beat, "state": state})


def is_orphaned(machine: JobStateMachine, job: Job) -> bool:
    """Whether nobody runs an unfinished job, as the reconciler finds out."""
    found = UnfinishedJobs(machine.redis, KEYS).standings([job.id], machine.queue)
    return [orphan.id for orphan in found.orphaned] == [job.id]


def key_of(redis: Redis, tenant: str, *scopes: str, livemode: bool = True) -> dict[str, str]:
    """The headers of a new key."""
    _, secret = KeyStore(redis, KEYS).create(tenant=tenant, scopes=scopes or SCOPES, livemode=livemode)
    return {"Authorization": f"Bearer {secret}"}
