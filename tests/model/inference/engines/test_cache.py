"""What a cache of compiled models believes, and what it does not."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from model.inference.engines.cache import N_KEPT, Blob, Cache

CONTENT = np.frombuffer(b"a compiled model", np.uint8)


class Maker:
    """Makes the content, and counts."""

    def __init__(self) -> None:
        self.n_made = 0

    def __call__(self) -> Blob:
        self.n_made += 1
        return CONTENT


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def maker() -> Maker:
    return Maker()


def test_what_was_made_once_is_found(directory: Path, maker: Maker) -> None:
    found = [Cache(directory).get_or_make("key", maker) for _ in range(2)]
    assert maker.n_made == 1
    assert all(bytes(blob) == bytes(CONTENT) for blob in found)
    assert directory.stat().st_mode & 0o777 == 0o700


def test_keys_are_kept_apart(directory: Path, maker: Maker) -> None:
    Cache(directory).get_or_make("one", maker)
    Cache(directory).get_or_make("other", maker)
    assert maker.n_made == 2


@pytest.mark.parametrize("damage", [b"", b"a compiled", b"a compiled mOdel", b"a compiled model!"])
def test_a_damaged_file_is_made_again(
    directory: Path, maker: Maker, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    Cache(directory).get_or_make("key", maker)
    (path,) = directory.glob("*.blob")
    path.write_bytes(damage)
    assert bytes(Cache(directory).get_or_make("key", maker)) == bytes(CONTENT)
    assert maker.n_made == 2
    assert "damaged" in caplog.text
    assert bytes(Cache(directory).get_or_make("key", maker)) == bytes(CONTENT)
    assert maker.n_made == 2


def test_writing_into_what_was_found_does_not_reach_the_file(directory: Path, maker: Maker) -> None:
    Cache(directory).get_or_make("key", maker)
    Cache(directory).get_or_make("key", maker)[:] = 0
    assert bytes(Cache(directory).get_or_make("key", maker)) == bytes(CONTENT)


@pytest.mark.parametrize("mode", [0o777, 0o750, 0o702])
def test_a_directory_that_others_can_enter_is_not_believed(
    directory: Path, maker: Maker, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    Cache(directory).get_or_make("key", maker)
    directory.chmod(mode)
    assert bytes(Cache(directory).get_or_make("key", maker)) == bytes(CONTENT)
    assert maker.n_made == 2
    assert "open to other users" in caplog.text


def test_a_directory_of_someone_else_is_not_believed(
    directory: Path, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    Cache(directory).get_or_make("key", maker)
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    Cache(directory).get_or_make("key", maker)
    assert maker.n_made == 2


def test_a_link_to_a_directory_is_not_believed(tmp_path: Path, maker: Maker) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    Cache(tmp_path / "link").get_or_make("key", maker)
    assert list((tmp_path / "real").iterdir()) == []


def test_without_a_place_to_write_things_are_made_each_time(
    tmp_path: Path, maker: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert bytes(Cache(tmp_path / "file" / "cache").get_or_make("key", maker)) == bytes(CONTENT)
    assert "not kept" in caplog.text


def test_of_several_that_lack_it_one_makes_it(directory: Path) -> None:
    made = []

    def make() -> Blob:
        time.sleep(0.1)
        made.append(threading.get_ident())
        return CONTENT

    threads = [threading.Thread(target=Cache(directory).get_or_make, args=("key", make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_a_maker_that_fails_leaves_nothing_behind(directory: Path, maker: Maker) -> None:
    def fail() -> Blob:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        Cache(directory).get_or_make("key", fail)
    assert bytes(Cache(directory).get_or_make("key", maker)) == bytes(CONTENT)


def test_only_the_newest_few_are_kept(directory: Path, maker: Maker) -> None:
    for number in range(N_KEPT + 2):
        Cache(directory).get_or_make(f"key{number}", maker)
        (path,) = directory.glob(f"key{number}.*.blob")
        os.utime(path, (number, number))
    kept = {path.name.partition(".")[0] for path in directory.glob("*.blob")}
    assert kept == {f"key{number}" for number in range(2, N_KEPT + 2)}


def test_what_is_removed_is_made_again(directory: Path, maker: Maker) -> None:
    cache = Cache(directory)
    cache.get_or_make("key", maker)
    cache.remove("key")
    cache.get_or_make("key", maker)
    assert maker.n_made == 2


def test_what_a_killed_process_left_half_written_is_removed(directory: Path, maker: Maker) -> None:
    Cache(directory).get_or_make("key", maker)
    Cache(directory).remove("key")
    (directory / ".key.0123.blob.partial").write_bytes(b"a comp")
    Cache(directory).get_or_make("key", maker)
    assert not list(directory.glob("*.partial"))
