"""Job records in every state, without an upload or a worker."""

from typing import Any

from redis import Redis

from app.api.auth.api_keys import KeyStore
from app.api.dependencies import Services
from app.core.callers import SCOPES
from app.core.jobs.store import Job, JobStore, new_job_id

WORKER_KEY = "rq:worker:test"
RESULT = {"scores": {"clarity": 3.1416}, "ranges": {"clarity": [1.0, 5.0]}}
MODEL = {"name": "apex", "version": "apex-1.0.0", "trained": True}


def queued(jobs: JobStore, **values: Any) -> Job:
    job_id = new_job_id()
    job = Job(id=job_id, storage_key=job_id, **values)
    jobs.create(job)
    return job


def running(jobs: JobStore, **values: Any) -> Job:
    run = jobs.start(queued(jobs, **values).id, max_attempts=3, lease_s=60)
    assert run
    return run


def succeeded(jobs: JobStore, **values: Any) -> Job:
    run = running(jobs, **values)
    jobs.succeed(run, result=RESULT, model=MODEL)
    return found(jobs, run)


def found(jobs: JobStore, job: Job) -> Job:
    record = jobs.get(job.id)
    assert record
    return record


def report(jobs: JobStore, run: Job, done: int, total: int = 7) -> None:
    jobs.report(run, progress={"stage": "embedding", "segments_done": done, "segments_total": total})


def expire(jobs: JobStore, job: Job) -> None:
    """What Redis does when the time of a finished job is over."""
    jobs.redis.delete(f"apex:job:{job.id}", f"apex:events:{job.id}")


def stored_audio(services: Services, job: Job) -> None:
    """A file under the job's key."""
    with services.storage.receive() as part:
        part.append(b"audio")
        part.commit(job.storage_key)


def live_worker(redis: Redis, *, beat: str, name: str = WORKER_KEY) -> None:
    """What RQ keeps of a worker that listens to the queue."""
    redis.sadd("rq:workers:scores", name)
    redis.hset(name, "last_heartbeat", beat)


def key_of(redis: Redis, tenant: str, *scopes: str) -> dict[str, str]:
    """The headers of a new key."""
    _, secret = KeyStore(redis).create(tenant=tenant, scopes=scopes or SCOPES)
    return {"Authorization": f"Bearer {secret}"}
