"""Faults are inflicted on a service that goes on working: what it does at the same moment does not break them off."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from redis import Redis

from tests import mounts
from tests.attack.phases.redis_contents import write_other_type


@pytest.mark.skipif(not mounts.may_mount(), reason="the right to mount a file system")
def test_a_folder_in_which_files_are_being_written_is_made_read_only(tmp_path: Path) -> None:
    with being_written(tmp_path):
        for _ in range(10):
            with mounts.read_only(tmp_path), pytest.raises(OSError, match="Read-only"):
                (tmp_path / "another").touch()
    (tmp_path / "another").touch()


@pytest.mark.parametrize("seed", range(10))
def test_a_key_that_was_written_a_moment_ago_gets_another_value(redis: Redis, seed: int) -> None:
    redis.zadd("key", {"member": 1.0})
    redis.lpush("list", "item")
    for key in ("key", "list"):
        before = redis.dump(key)
        write_other_type(redis, key, Random(seed))
        assert redis.dump(key) != before


@contextmanager
def being_written(directory: Path) -> Iterator[None]:
    """A file or another of the folder is open for writing all the time, if it can be."""
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            try:
                with (directory / "written").open("wb"):
                    stop.wait(0.001)
            except OSError:
                """Read-only at this moment."""

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()
