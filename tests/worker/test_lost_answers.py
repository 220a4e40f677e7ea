"""Redis carries a command out, and the answer is lost on its way: the command is sent again, and counts once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError
from rq.job import Job as RqJob

from app.core.jobs.models import Job, JobState, Orphan, new_job_id
from app.core.jobs.state_machine import JobStateMachine
from app.core.redis.client import connect
from app.core.storage.folder import FolderStorage
from tests.app.records import queued
from tests.conftest import state_machine
from tests.proxy import Proxy, proxy
from tests.worker.fakes import accepted, outcome, score_track, stored
from worker.reconciler import Reconciler


@pytest.fixture
def between(redis_url: str) -> Iterator[Proxy]:
    with proxy(redis_url) as passing:
        yield passing


@pytest.fixture
def far(between: Proxy) -> Iterator[JobStateMachine]:
    """The jobs as a worker reaches them, through the proxy."""
    with connect(between.url, max_retries=5) as client:
        yield state_machine(client)


@pytest.mark.parametrize("step", ["start", "report", "finish"])
def test_a_run_survives_a_lost_answer(
    machine: JobStateMachine, far: JobStateMachine, between: Proxy, data_dir: Path, step: str
) -> None:
    task = score_track(far, data_dir)
    task.worker = "me"
    task(accepted(machine, data_dir).id)  # so that Redis knows the scripts
    job = accepted(machine, data_dir)
    between.lose_answer_to = far.scripts[step].sha.encode()
    task(job.id)
    assert between.n_lost == 1
    assert (outcome(machine, job).status, outcome(machine, job).attempt) == (JobState.SUCCEEDED, 1)
    assert stored(data_dir) == []


def test_a_creation_of_unknown_outcome_makes_one_job(machine: JobStateMachine, between: Proxy, data_dir: Path) -> None:
    """The front end tries once; the record and the queue agree on what came of it."""
    reconciler = Reconciler(machine=machine, storage=FolderStorage(data_dir / "audio"), max_attempts=3)
    job = Job(id=new_job_id(), storage_key="x")
    with connect(between.url, max_retries=0) as client:
        far = state_machine(client)
        far.create(Job(id=new_job_id(), storage_key="x"))  # so that Redis knows the script
        between.lose_answer_to = job.id.encode()
        with pytest.raises(ConnectionError):
            far.create(job)
    assert [reconciler.run(), reconciler.run()] == [[], []]
    assert machine.queue.rq.job_ids.count(job.id) == 1
    assert outcome(machine, job).status is JobState.QUEUED


def test_an_enqueue_sent_again_makes_one_job(machine: JobStateMachine, between: Proxy) -> None:
    job, other = queued(machine), queued(machine)
    machine.redis.delete(machine.queue.rq.key, *(RqJob.key_for(lost.id) for lost in (job, other)))
    with connect(between.url, max_retries=5) as client:
        far = state_machine(client)
        far.enqueue([Orphan(other.id, other.tenant, 0, "")])  # so that Redis knows the script
        between.lose_answer_to = job.id.encode()
        assert far.enqueue([Orphan(job.id, job.tenant, 0, "")]) == []
    assert machine.queue.rq.job_ids == [job.id, other.id]
