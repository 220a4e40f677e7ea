"""Audio storage: what is durable, what is deleted, and that a key cannot leave the directory."""

import errno
import hashlib
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from app.core.problems import Problem
from app.core.storage.folder import MARKER, FolderStorage, PartialFile


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "data" / "audio")


def stored(storage: FolderStorage, key: str, content: bytes) -> Path:
    with storage.receive(key) as part:
        part.append(content)
        part.commit()
    return storage.path(key)


def names(storage: FolderStorage) -> list[str]:
    return sorted(os.listdir(storage.directory))


def test_the_directory_is_private(storage: FolderStorage) -> None:
    assert stat.S_IMODE(storage.directory.stat().st_mode) == 0o700


def test_a_committed_file_can_be_read_and_deleted(storage: FolderStorage) -> None:
    stored(storage, "job_1", b"abc")
    with storage.open("job_1") as file:
        assert file.read() == b"abc"
    storage.delete("job_1")
    storage.delete("job_1")
    assert names(storage) == []


def test_blocks_are_counted_and_hashed(storage: FolderStorage) -> None:
    with storage.receive("job_1") as part:
        part.append(b"ab")
        part.flush()
        part.append(memoryview(b"c"))
        with pytest.raises(ValueError, match="flushed"):
            _ = part.sha256
        part.flush()
        assert (part.size_bytes, part.sha256) == (3, hashlib.sha256(b"abc").hexdigest())


def test_what_is_not_committed_is_deleted(storage: FolderStorage) -> None:
    with storage.receive("job_1") as part:
        part.append(b"abc")
        assert names(storage) == []
        part.flush()
        assert [name.endswith(".part") for name in names(storage)] == [True]
    assert names(storage) == []


def test_a_key_appears_whole_or_not_at_all(storage: FolderStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_storage: FolderStorage) -> None:
        raise OSError(5, "no")

    monkeypatch.setattr(FolderStorage, "sync", fail)
    with pytest.raises(Problem, match="storage_unavailable"):
        stored(storage, "job_1", b"abc")
    assert names(storage) == []


def test_the_file_is_synced_before_it_is_renamed_and_the_directory_after(
    storage: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note_fsync(descriptor: int) -> None:
        steps.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def note_rename(path: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "rename", note_rename)
    stored(storage, "job_1", b"abc")
    assert steps == ["file", "rename", "directory"]


@pytest.mark.parametrize("key", ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\0", "a.wav", "x" * 65, "a\n", "ü"])
def test_a_key_that_could_leave_the_directory_is_refused(storage: FolderStorage, key: str) -> None:
    for use in (storage.path, storage.receive, storage.open, storage.delete):
        with pytest.raises(ValueError, match="not a storage key"):
            use(key)


def test_orphans_are_old_files_and_old_uploads(storage: FolderStorage) -> None:
    hour_ago = time.time() - 3600
    for name in ("job_old", "cafe.part"):
        (storage.directory / name).touch()
        os.utime(storage.directory / name, (hour_ago, hour_ago))
    stored(storage, "job_new", b"abc")
    for name in ("not ours", "README", "song.part"):
        (storage.directory / name).touch()
        os.utime(storage.directory / name, (hour_ago, hour_ago))
    (storage.directory / "job_folder").mkdir()
    os.utime(storage.directory / "job_folder", (hour_ago, hour_ago))
    assert sorted(storage.orphans(older_than_s=60)) == ["cafe.part", "job_old"]
    for name in list(storage.orphans(older_than_s=60)):
        storage.delete(name)
    assert names(storage) == ["README", "job_folder", "job_new", "not ours", "song.part"]


def test_an_orphans_age_counts_from_its_commit_however_slow_the_upload(storage: FolderStorage) -> None:
    with storage.receive("job_1") as part:
        part.append(b"abc")
        part.flush()
        [unfinished] = storage.directory.iterdir()
        os.utime(unfinished, (0, 0))
        part.commit()
    assert list(storage.orphans(older_than_s=60)) == []


def test_the_upload_of_a_killed_process_is_an_orphan_soon_and_that_of_a_living_one_is_not(
    storage: FolderStorage,
) -> None:
    with storage.receive("job_1") as living:
        living.append(b"abc")
        living.flush()
        (storage.directory / "dead.part").touch()
        for name in names(storage):
            os.utime(storage.directory / name, (time.time() - 120,) * 2)
        assert list(storage.orphans(older_than_s=3600)) == ["dead.part"]
        living.commit()


def test_a_file_system_that_refuses_to_delete_leaves_the_file_for_later(
    storage: FolderStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    stored(storage, "job_1", b"abc")
    with monkeypatch.context() as patch, storage.receive("job_2") as part:
        part.append(b"abc")
        part.flush()
        patch.setattr(Path, "unlink", refuse)
        storage.delete("job_1")
        part.discard()
    assert len(names(storage)) == 2
    assert caplog.text.count("could not be deleted") == 2


def test_a_file_discarded_while_a_thread_writes_is_closed_after_the_write(
    storage: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = threading.Event(), threading.Event()
    real = PartialFile._write

    def slow(part: PartialFile, block: bytearray) -> None:
        writing.set()
        go_on.wait(5)
        real(part, block)

    monkeypatch.setattr(PartialFile, "_write", slow)
    part = storage.receive("job_1")
    part.append(b"abc")
    writer = threading.Thread(target=part.flush)
    discarder = threading.Thread(target=part.discard)
    writer.start()
    writing.wait(5)
    discarder.start()
    go_on.set()
    writer.join()
    discarder.join()
    assert part.size_bytes == 3
    assert names(storage) == []


def test_free_room_is_known(storage: FolderStorage) -> None:
    assert storage.free_bytes() > 0
    storage.check_writable()
    assert names(storage) == []


def test_a_marker_is_made_once(storage: FolderStorage) -> None:
    assert storage.marker() is None
    assert [storage.create_marker(name) for name in ("dep_1", "dep_2")] == ["dep_1", "dep_1"]
    assert storage.marker() == "dep_1"
    assert names(storage) == [MARKER]


def test_a_marker_is_made_where_there_are_no_hard_links(
    storage: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert [storage.create_marker(name) for name in ("dep_1", "dep_2")] == ["dep_1", "dep_1"]
    assert names(storage) == [MARKER]


def test_no_sweep_takes_the_marker(storage: FolderStorage) -> None:
    storage.create_marker("dep_1")
    assert list(storage.orphans(older_than_s=-1.0)) == []


def test_a_storage_that_is_gone_has_no_marker(storage: FolderStorage) -> None:
    storage.directory.rmdir()
    assert storage.marker() is None


@pytest.mark.parametrize(("mode", "is_fit"), [(0o700, True), (0o1777, False), (0o777, True)])
def test_a_folder_keeps_files_of_others_by_its_sticky_bit(
    storage: FolderStorage, monkeypatch: pytest.MonkeyPatch, mode: int, is_fit: bool
) -> None:
    storage.directory.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: storage.directory.stat().st_uid + 1)
    if is_fit:
        storage.check_deletable()
    else:
        with pytest.raises(PermissionError, match="sticky"):
            storage.check_deletable()


def test_a_file_that_cannot_be_read_is_found_before_a_job_meets_it(
    storage: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_storage: FolderStorage, _key: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    storage.create_marker("dep_1")
    monkeypatch.setattr(FolderStorage, "open", refuse)
    storage.check_readable()
    stored(storage, "job_1", b"abc")
    with pytest.raises(PermissionError):
        storage.check_readable()
