"""Room on the disk that is promised already."""

from pathlib import Path

import pytest

from app.core.storage.folder import FolderStorage
from app.core.storage.room import Reservations, ScratchRoom

MIB = 1024 * 1024


def test_an_open_upload_reserves_what_has_not_come_yet() -> None:
    reservations = Reservations()
    with reservations.reserve(100) as first, reservations.reserve(50) as second:
        first.use(30)
        assert reservations.total_bytes == 120
        second.use(80)  # more than it said
        assert reservations.total_bytes == 70
    assert reservations.total_bytes == 0


def test_nothing_stays_reserved_for_an_upload_that_failed() -> None:
    reservations = Reservations()
    with pytest.raises(ConnectionError), reservations.reserve(100):
        raise ConnectionError
    assert reservations.total_bytes == 0


def test_what_the_decoders_may_need_is_not_free(tmp_path: Path) -> None:
    room = ScratchRoom(tmp_path / "audio", tmp_path / "scratch", 10 * MIB, n_workers=lambda: 3)
    everything = FolderStorage(tmp_path / "audio").free_bytes()
    left = FolderStorage(tmp_path / "audio", scratch_bytes=room).free_bytes()
    assert abs(everything - left - 30 * MIB) < 20 * MIB  # others use the disk meanwhile


def test_scratch_files_on_another_disk_need_no_room_here(tmp_path: Path) -> None:
    audio_dir = tmp_path / "audio"
    audio_dir.mkdir()
    assert ScratchRoom(audio_dir, Path("/proc/self"), MIB, n_workers=lambda: 1)() == 0
