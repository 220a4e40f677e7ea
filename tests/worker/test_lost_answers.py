"""Redis carries a command out, and the answer is lost on its way: the command is sent again, and counts once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError

from app.core.jobs.queue import ScoreQueue
from app.core.jobs.store import JobState, JobStore
from app.core.redis_client import connect
from app.core.storage.local import AudioStorage
from tests.proxy import Proxy, proxy
from tests.worker.fakes import accepted, outcome, score_track, stored
from worker.reconciler import Reconciler


@pytest.fixture
def between(redis_url: str) -> Iterator[Proxy]:
    with proxy(redis_url) as passing:
        yield passing


@pytest.fixture
def far(between: Proxy) -> Iterator[JobStore]:
    """The store as a worker has it, through the proxy."""
    with connect(between.url, max_retries=5) as client:
        yield JobStore(client, result_ttl_s=60)


@pytest.mark.parametrize("step", ["start", "report", "end"])
def test_a_run_survives_a_lost_answer(
    store: JobStore, far: JobStore, between: Proxy, data_dir: Path, step: str
) -> None:
    task = score_track(far, data_dir)
    task.worker = "me"
    task(accepted(store, data_dir).id)  # so that Redis knows the scripts
    job = accepted(store, data_dir)
    between.lose_answer_to = getattr(far, f"_{step}").sha.encode()
    task(job.id)
    assert between.n_lost == 1
    assert (outcome(store, job).status, outcome(store, job).attempt) == (JobState.SUCCEEDED, 1)
    assert stored(data_dir) == []


def test_an_enqueue_of_unknown_outcome_makes_one_job(store: JobStore, between: Proxy, data_dir: Path) -> None:
    """The front end tries once; the reconciler finds what came of it."""
    job = accepted(store, data_dir)
    reconciler = Reconciler(
        store=store,
        queue=ScoreQueue(store.redis, name="scores"),
        storage=AudioStorage(data_dir / "audio"),
        max_attempts=3,
    )
    with connect(between.url, max_retries=0) as client:
        queue = ScoreQueue(client, name="scores")
        queue.enqueue("job_" + "0" * 32)
        between.lose_answer_to = job.id.encode()
        with pytest.raises(ConnectionError):
            queue.enqueue(job.id)
    assert [reconciler.run(), reconciler.run()] == [[], []]
    assert store.redis.lrange(reconciler.queue.rq.key, 0, -1).count(job.id.encode()) == 1


def test_an_enqueue_sent_again_makes_one_job(store: JobStore, between: Proxy, data_dir: Path) -> None:
    job = accepted(store, data_dir)
    with connect(between.url, max_retries=5) as client:
        queue = ScoreQueue(client, name="scores")
        queue.enqueue("job_" + "0" * 32)
        between.lose_answer_to = job.id.encode()
        assert not queue.enqueue(job.id)
        assert queue.depth() == 2
