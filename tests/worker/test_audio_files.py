"""Audio from an object store: copied, checked, fetched ahead, and what a run makes of a store that is away."""

import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from app.core.jobs.models import Job, JobState, new_job_id
from app.core.jobs.state_machine import JobStateMachine
from app.core.settings import WorkerSettings
from app.core.storage.object_store import ObjectStorage
from app.core.storage.opening import open_storage
from app.core.storage.store_errors import StoreUnavailable
from tests.app.core.storage.conftest import object_storage
from tests.app.core.storage.faults import BUSY, FaultyProxy, faulty_proxy
from tests.worker.fakes import nothing, outcome, score_track
from worker.audio_files import Prefetch, ScratchCopies, StoredFiles, WrongBytes
from worker.machine_faults import is_machine_fault
from worker.process import audio_files, next_job
from worker.reconciler import Reconciler
from worker.watchdog import Watchdog

AUDIO = b"audio" * 1_000_000


@pytest.fixture
def proxy(s3: Mapping[str, str]) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3["AWS_ENDPOINT_URL"]) as passing:
        yield passing


@pytest.fixture
def storage(s3: Mapping[str, str], proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> ObjectStorage:
    url = f"s3://apex/{secrets.token_hex(4)}"
    return object_storage(monkeypatch, {**s3, "AWS_ENDPOINT_URL": proxy.url}, url, timeout_s=3)


@pytest.fixture
def copies(storage: ObjectStorage, machine: JobStateMachine, tmp_path: Path) -> Iterator[ScratchCopies]:
    made = ScratchCopies(storage, tmp_path, next_job=partial(next_job, machine), on_progress=nothing)
    yield made
    made.close()


def accepted(storage: ObjectStorage, machine: JobStateMachine, content: bytes = AUDIO) -> Job:
    """A job as the front end leaves it."""
    job_id = new_job_id()
    with storage.receive(job_id) as part:
        part.append(content)
        part.commit()
        audio = {"bytes": part.size_bytes, "container": "wav", "sha256": part.sha256}
    return machine.create(Job(id=job_id, storage_key=part.key, audio=audio))[0]


def fetched(proxy: FaultyProxy, job: Job) -> int:
    """How many requests asked for a job's audio."""
    return len([target for method, target in proxy.seen if method == "GET" and job.storage_key in target])


def settled(copies: ScratchCopies) -> None:
    """Wait until what is fetched ahead has come."""
    assert isinstance(copies._prefetch, Prefetch)
    copies._prefetch._made.result(30)


def test_a_copy_is_a_file_without_a_name_and_the_same_bytes(
    copies: ScratchCopies, storage: ObjectStorage, machine: JobStateMachine, tmp_path: Path
) -> None:
    with copies.open(accepted(storage, machine)) as file:
        assert os.fstat(file.fileno()).st_nlink == 0
        assert file.read() == AUDIO
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_are_not_what_was_uploaded_are_no_fault_of_the_machine(
    copies: ScratchCopies, storage: ObjectStorage, machine: JobStateMachine
) -> None:
    job = accepted(storage, machine)
    with pytest.raises(WrongBytes) as raised:
        copies.open(replace(job, audio={**job.audio, "sha256": "0" * 64}))
    assert not is_machine_fault(raised.value)


def test_a_missing_object_is_a_missing_file_and_a_store_that_is_away_a_fault_of_the_machine(
    copies: ScratchCopies, storage: ObjectStorage, machine: JobStateMachine, proxy: FaultyProxy
) -> None:
    job = accepted(storage, machine)
    proxy.fail_all(BUSY)
    with pytest.raises(StoreUnavailable) as raised:
        copies.open(job)
    assert is_machine_fault(raised.value)
    proxy.heal()
    storage.delete(job.storage_key)
    with pytest.raises(FileNotFoundError):
        copies.open(job)


def test_the_next_job_is_fetched_while_the_model_works(
    copies: ScratchCopies, storage: ObjectStorage, machine: JobStateMachine, proxy: FaultyProxy
) -> None:
    job = accepted(storage, machine)
    copies.look_ahead()
    settled(copies)
    n_before = fetched(proxy, job)
    assert n_before > 0
    with copies.open(job) as file:
        assert file.read() == AUDIO
    assert fetched(proxy, job) == n_before
    assert outcome(machine, job).status is JobState.QUEUED, "nobody took it"


def test_a_copy_of_a_job_that_another_worker_took_is_dropped(
    copies: ScratchCopies, storage: ObjectStorage, machine: JobStateMachine
) -> None:
    accepted(storage, machine)
    other = accepted(storage, machine, b"other")
    copies.look_ahead()
    settled(copies)
    ahead = copies._prefetch
    with copies.open(other) as file:
        assert file.read() == b"other"
    assert ahead
    assert (copy := ahead._made.result())
    assert copy.closed


@pytest.mark.parametrize("away", [True, False])
def test_what_could_not_be_fetched_ahead_is_fetched_when_its_turn_comes(
    copies: ScratchCopies, storage: ObjectStorage, machine: JobStateMachine, proxy: FaultyProxy, away: bool
) -> None:
    job = accepted(storage, machine)
    if away:
        proxy.fail_all(BUSY)
    else:
        copies.next_job = lambda: None
    copies.look_ahead()
    settled(copies)
    proxy.heal()
    with copies.open(job) as file:
        assert file.read() == AUDIO


def test_one_copy_ahead_is_made_at_a_time_and_waited_for(
    copies: ScratchCopies, storage: ObjectStorage, machine: JobStateMachine
) -> None:
    job, go_on, n_asked = accepted(storage, machine), threading.Event(), 0

    def slow() -> Job | None:
        nonlocal n_asked
        n_asked += 1
        return job

    def wait_for_the_word(copy: Callable[[Job], object], of: Job) -> object:
        go_on.wait(30)
        return copy(of)

    copies.next_job = slow
    copies._prefetch = Prefetch(slow, partial(wait_for_the_word, partial(copies._copy, on_block=nothing)))  # type: ignore[arg-type]
    copies.look_ahead()
    copies.on_progress = go_on.set
    while copies._prefetch._key is None:
        pass
    with copies.open(job) as file:
        assert file.read() == AUDIO
    assert n_asked == 1


def test_a_worker_copies_objects_and_reads_files_where_they_are(machine: JobStateMachine, data_dir: Path) -> None:
    made = {}
    for url in ("", "s3://bucket/prefix"):
        settings = WorkerSettings(data_dir=data_dir, storage_url=url)
        made[url] = type(audio_files(settings, open_storage(settings), machine, Watchdog(60)))
    assert made == {"": StoredFiles, "s3://bucket/prefix": ScratchCopies}


def test_the_reconciler_deletes_objects_that_no_unfinished_job_needs(
    storage: ObjectStorage, machine: JobStateMachine
) -> None:
    waiting, done = accepted(storage, machine), accepted(storage, machine)
    machine.cancel(done)
    with storage.receive(new_job_id()) as unknown:
        unknown.append(AUDIO)
        unknown.commit()
    with storage.receive(waiting.id) as twin:
        twin.append(AUDIO)
        twin.commit()
    reconciler = Reconciler(machine=machine, storage=storage, max_attempts=3, orphan_grace_s=-60)
    reconciler.run()
    assert set(storage.orphans(older_than_s=-60)) == {waiting.storage_key, twin.key}, "a twin lasts as long as its job"


def test_a_run_on_a_store_ends_with_its_object_deleted(
    copies: ScratchCopies, storage: ObjectStorage, machine: JobStateMachine, data_dir: Path
) -> None:
    job = accepted(storage, machine)
    score_track(machine, data_dir, storage=storage, audio=copies)(job.id)
    assert outcome(machine, job).status is JobState.SUCCEEDED
    assert list(storage.orphans(older_than_s=-60)) == []


def test_a_store_that_is_away_costs_a_job_nothing_and_a_worker_a_pause(
    copies: ScratchCopies, storage: ObjectStorage, machine: JobStateMachine, proxy: FaultyProxy, data_dir: Path
) -> None:
    job = accepted(storage, machine)
    task = score_track(machine, data_dir, storage=storage, audio=copies)
    proxy.fail_all(BUSY)
    task(job.id)
    assert (outcome(machine, job).status, outcome(machine, job).attempts_used) == (JobState.QUEUED, 0)
    assert task.pause.active
    proxy.heal()
    task(job.id)
    assert outcome(machine, job).status is JobState.SUCCEEDED
