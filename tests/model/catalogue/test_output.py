"""A file of the output is of whoever wrote it first, and there is never a part of one."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model.catalogue.output import OutputFolder


def test_of_many_writers_of_a_file_one_is_the_first(tmp_path: Path) -> None:
    output = OutputFolder(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(lambda number: output.create("a/b", bytes([number]) * 9), range(40)))
    assert first.count(True) == 1
    with output.open("a/b") as file:
        assert file.read() == bytes([first.index(True)]) * 9
    assert os.listdir(tmp_path / "a") == ["b"]


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    output = OutputFolder(tmp_path)
    assert [output.create("a", b"1"), output.create("a", b"2")] == [True, False]
    assert (tmp_path / "a").read_bytes() == b"1"
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_can_be_replaced_by_bytes_and_by_a_file(tmp_path: Path) -> None:
    output = OutputFolder(tmp_path / "out")
    output.replace("a", b"1")
    (tmp_path / "large").write_bytes(b"2")
    output.replace("a", tmp_path / "large")
    assert (tmp_path / "out/a").read_bytes() == b"2"
    with pytest.raises(FileNotFoundError):
        output.open("b")


def test_only_old_remains_of_killed_processes_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in (".old.1.partial", ".new.1.partial"):
        (tmp_path / "a" / name).touch()
    os.utime(tmp_path / "a/.old.1.partial", (0, 0))
    OutputFolder(tmp_path).delete_abandoned(older_than_s=3_600)
    assert os.listdir(tmp_path / "a") == [".new.1.partial"]
