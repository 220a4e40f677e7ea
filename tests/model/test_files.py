"""Files that appear whole or not at all."""

import os
from pathlib import Path

import pytest

from model.files import atomic_write, write_json, write_text


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_write(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def interrupted(path: Path) -> None:
    with atomic_write(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt


def test_an_error_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        interrupted(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_durable_file_is_synced_before_it_has_its_name_and_its_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        steps.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def note_replace(old: Path, new: Path) -> None:
        steps.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    with atomic_write(tmp_path / "file", durable=True) as partial:
        partial.touch()
    assert steps == ["sync .file.partial", "rename", f"sync {tmp_path.name}"]


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "file", float("nan"))
    assert not any(tmp_path.iterdir())


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "σ\n")
    assert (tmp_path / "file").read_bytes() == b"\xcf\x83\n"
