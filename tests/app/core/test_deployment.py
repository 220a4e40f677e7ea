"""Redis and storage compared: who may use which, and how they come together again."""

import errno
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest
from redis import Redis
from redis.exceptions import ConnectionError

from app.core import deployment as module
from app.core.deployment import Deployment, NotOurStorage
from app.core.jobs.models import Job, new_job_id
from app.core.jobs.state_machine import JobStateMachine
from app.core.misconfiguration import Misconfigured
from app.core.redis.client import connect
from app.core.storage.folder import MARKER, FolderStorage
from tests.conftest import KEYS
from tests.worker.fakes import accepted

N_STARTS = 8


def folder(path: Path) -> FolderStorage:
    return FolderStorage(path / "audio")


def of(redis: Redis, storage: FolderStorage) -> Deployment:
    return Deployment(redis, KEYS, storage)


def known_to(redis: Redis) -> dict[bytes, bytes]:
    return cast(dict[bytes, bytes], redis.hgetall(KEYS.deployment))


def refused(deployment: Deployment) -> str:
    with pytest.raises(NotOurStorage) as refusal:
        deployment.check()
    return refusal.value.fault


def test_the_first_start_marks_the_storage(redis: Redis, tmp_path: Path) -> None:
    storage = folder(tmp_path)
    of(redis, storage).require()
    assert known_to(redis) == {b"id": str(storage.marker()).encode(), b"marked": b"1"}
    assert os.listdir(storage.directory) == [MARKER]
    of(redis, folder(tmp_path)).require()


def start_at_once(redis: Redis, storages: Sequence[FolderStorage]) -> list[FolderStorage]:
    """Start a deployment on each storage at the same time; those that were refused."""
    begin, refused = threading.Barrier(len(storages)), list[FolderStorage]()

    def start(storage: FolderStorage) -> None:
        begin.wait()
        try:
            of(redis, storage).check()
        except NotOurStorage:
            refused.append(storage)

    with ThreadPoolExecutor(len(storages)) as pool:
        for started in [pool.submit(start, storage) for storage in storages]:
            started.result()
    return refused


def test_several_first_starts_at_once_come_to_one_id(redis: Redis, tmp_path: Path) -> None:
    assert start_at_once(redis, [folder(tmp_path) for _ in range(N_STARTS)]) == []
    assert known_to(redis)[b"id"].decode() == folder(tmp_path).marker()


def test_of_first_starts_at_once_with_several_folders_one_wins(redis: Redis, tmp_path: Path) -> None:
    for attempt in range(10):
        redis.delete(KEYS.deployment)
        storages = [folder(tmp_path / f"{attempt} {number}") for number in range(N_STARTS)]
        refused = start_at_once(redis, storages)
        (accepted,) = [storage for storage in storages if storage not in refused]
        assert known_to(redis) == {b"id": str(accepted.marker()).encode(), b"marked": b"1"}


def test_a_start_that_broke_off_between_redis_and_storage_is_made_good(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FolderStorage, "create_marker", killed)
        with pytest.raises(KeyboardInterrupt):
            of(redis, folder(tmp_path)).check()
    of(redis, folder(tmp_path)).check()
    assert known_to(redis)[b"id"].decode() == folder(tmp_path).marker()


def test_a_folder_that_is_not_mounted_is_refused(redis: Redis, tmp_path: Path) -> None:
    of(redis, folder(tmp_path / "mounted")).require()
    empty = folder(tmp_path / "unmounted")
    with pytest.raises(Misconfigured, match=r"unmounted.*lacks the marker.*apex storage adopt"):
        of(redis, empty).require()
    assert empty.marker() is None


def test_a_job_whose_track_is_yet_to_be_fetched_has_no_audio_to_be_missed(
    redis: Redis, machine: JobStateMachine, tmp_path: Path
) -> None:
    machine.create(Job(id="job_1", storage_key="job_1", source={"url": "https://cdn.example/"}))
    of(redis, folder(tmp_path)).require()


def test_two_deployments_do_not_share_a_folder(redis: Redis, tmp_path: Path) -> None:
    other = Deployment(redis, type(KEYS)("stage"), folder(tmp_path))
    other.require()
    assert refused(of(redis, folder(tmp_path))) == "unknown"
    of(redis, folder(tmp_path / "own")).require()
    assert refused(of(redis, folder(tmp_path))) == "foreign"
    other.check()


def test_a_redis_that_lost_its_data_is_told_again_by_who_knew_it(redis: Redis, tmp_path: Path) -> None:
    running = of(redis, folder(tmp_path))
    running.require()
    before = known_to(redis)
    redis.flushall()
    assert refused(of(redis, folder(tmp_path))) == "unknown", "one that starts cannot know that it is the same Redis"
    running.check()
    assert known_to(redis) == before
    of(redis, folder(tmp_path)).require()


def test_a_start_waits_for_that(redis: Redis, tmp_path: Path) -> None:
    running = of(redis, folder(tmp_path))
    running.require()
    redis.flushall()
    timer = threading.Timer(0.3, running.check)
    timer.start()
    of(redis, folder(tmp_path)).require()
    timer.join()


def test_what_nobody_knows_any_more_is_refused_at_a_start_until_it_is_adopted(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED_WITHIN_S", 0.0)
    of(redis, folder(tmp_path)).require()
    redis.flushall()
    with pytest.raises(Misconfigured, match="Redis has lost its data"):
        of(redis, folder(tmp_path)).require()
    of(redis, folder(tmp_path)).adopt()
    of(redis, folder(tmp_path)).require()


@pytest.mark.parametrize("other_was_used", [True, False])
def test_another_storage_is_taken_when_it_is_adopted(redis: Redis, tmp_path: Path, other_was_used: bool) -> None:
    of(redis, folder(tmp_path / "old")).require()
    if other_was_used:
        folder(tmp_path / "new").create_marker("dep_other")
    of(redis, folder(tmp_path / "new")).adopt()
    of(redis, folder(tmp_path / "new")).require()
    assert refused(of(redis, folder(tmp_path / "old"))) == "foreign"


def test_jobs_of_before_are_taken_over_with_their_audio_only(
    redis: Redis, machine: JobStateMachine, tmp_path: Path
) -> None:
    accepted(machine, tmp_path)
    with pytest.raises(Misconfigured, match="none of the audio"):
        of(redis, folder(tmp_path / "unmounted")).require()
    of(redis, folder(tmp_path)).require()
    assert folder(tmp_path / "unmounted").marker() is None


def test_a_job_that_has_no_audio_keeps_no_storage_from_being_adopted(
    redis: Redis, machine: JobStateMachine, tmp_path: Path
) -> None:
    machine.create(Job(id=new_job_id(), storage_key="gone"))
    with pytest.raises(Misconfigured, match="none of the audio"):
        of(redis, folder(tmp_path)).require()
    of(redis, folder(tmp_path)).adopt()
    of(redis, folder(tmp_path)).require()


def test_they_are_compared_again_only_when_it_was_long_ago(redis: Redis, tmp_path: Path) -> None:
    deployment = of(redis, folder(tmp_path))
    deployment.check_if_older(60.0)
    (folder(tmp_path).directory / MARKER).unlink()
    deployment.check_if_older(60.0)
    for _ in range(2):  # a refusal is not kept
        with pytest.raises(NotOurStorage):
            deployment.check_if_older(0.0)
    with pytest.raises(NotOurStorage):
        deployment.check_if_older(60.0)


def test_while_redis_is_away_a_start_is_not_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with connect(f"unix://{tmp_path}/none.sock", max_retries=0) as away:
        deployment = of(away, folder(tmp_path))
        deployment.require()
        assert "not compared yet" in caplog.text
        with pytest.raises(ConnectionError):
            deployment.check_if_older(60.0)


def test_a_storage_that_does_not_answer_keeps_no_program_from_its_start(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise OSError(errno.EIO, "no answer")

    monkeypatch.setattr(FolderStorage, "marker", away)
    deployment = of(redis, folder(tmp_path))
    deployment.require()
    assert "not compared yet" in caplog.text
    with pytest.raises(OSError, match="no answer"):
        deployment.check_if_older(60.0)


def test_a_folder_that_cannot_be_marked_is_refused_with_a_sentence(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> str:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(FolderStorage, "create_marker", read_only)
    with pytest.raises(Misconfigured, match="audio cannot be used: Read-only file system"):
        of(redis, folder(tmp_path)).require()
