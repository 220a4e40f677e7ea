"""A backup of Redis: its append-only file, copied while it works, becomes a Redis that goes on."""

import shutil
from pathlib import Path

from app.core.jobs.models import JobState
from app.core.storage.folder import FolderStorage
from tests.conftest import state_machine
from tests.redis_servers import server
from tests.worker.fakes import accepted, outcome, score_track
from tests.worker.workers import worker
from worker.reconciler import Reconciler

KEPT = ("appendonly yes", "appendfsync always", 'save ""')
AOF = "appendonlydir"


def test_a_copy_of_the_append_only_file_becomes_a_redis_that_goes_on(tmp_path: Path) -> None:
    with server(tmp_path / "old", *KEPT) as old, old.client() as redis:
        machine = state_machine(redis)
        finished, running, waiting = (accepted(machine, tmp_path) for _ in range(3))
        worker(score_track(machine, tmp_path)).work(burst=True, max_jobs=1)
        assert machine.start(running.id, max_attempts=3, lease_s=0.01)  # by a worker that the disaster takes, too
        before = outcome(machine, finished)
        shutil.copytree(tmp_path / "old" / AOF, tmp_path / "new" / AOF)
    with server(tmp_path / "new", *KEPT) as new, new.client() as redis:
        machine = state_machine(redis)
        Reconciler(machine=machine, storage=FolderStorage(tmp_path / "audio"), max_attempts=3).run()
        worker(score_track(machine, tmp_path)).work(burst=True)
        assert outcome(machine, finished) == before
        ended = [outcome(machine, job) for job in (finished, running, waiting)]
    assert [(job.status, job.attempt) for job in ended] == [(JobState.SUCCEEDED, n) for n in (1, 2, 1)]
