"""A song is found by its id, wherever the operator's folder and links keep it, and nowhere else."""

import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import pytest

from model.catalogue.audio_files import AudioAmbiguous, AudioFiles, NoAudio, choose_audio, find_audio
from model.training.tables import DataError
from tests.model.tracks import track_file

Form = Literal["NFC", "NFD"]
AUDIO = track_file("wav-16")
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF"


def written(root: Path, *names: str, data: bytes = AUDIO) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def zipped(root: Path, path: Path) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for file in root.rglob("*.*"):
            archive.write(file, file.relative_to(root).as_posix())
    return f"zip://::{path}"


def below(root: Path, paths: Iterable[str]) -> list[str]:
    return [os.path.relpath(path, root) for path in paths]


def test_an_id_is_found_at_any_depth_and_through_links_to_files_and_folders(tmp_path: Path) -> None:
    elsewhere = written(tmp_path / "blobs", "0123", "album/b.wav")
    root = written(tmp_path / "audio", "deep/er/a.wav")
    (root / "linked.mp3").symlink_to(elsewhere / "0123")
    (root / "more").symlink_to(elsewhere / "album")
    files = find_audio(str(root))
    assert [below(root, files.named(name)) for name in ("a", "linked", "b")] == [
        ["deep/er/a.wav"],
        ["linked.mp3"],
        ["more/b.wav"],
    ]


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(written(tmp_path / "audio", "a.wav"))
    assert find_audio(str(tmp_path / "link")).named("a") == [str(tmp_path / "link/a.wav")]


@pytest.mark.timeout(20)
def test_links_in_a_circle_end(tmp_path: Path) -> None:
    root = written(tmp_path / "audio", *(f"{i}/s{i}.wav" for i in range(12)))
    for i in range(12):  # each links to all, so that paths without a repetition are too many to walk
        for j in range(12):
            (root / f"{i}/to{j}").symlink_to(root / str(j))
    (root / "itself").symlink_to(root / "itself")
    (root / "up").symlink_to(tmp_path)
    files = find_audio(str(root))
    assert [len(files.named(f"s{i}")) for i in range(12)] == [1] * 12
    assert below(root, files.named("0/to1/to2/s2")) == ["2/s2.wav"]


def test_one_file_under_two_names_of_its_folder_is_one_file(tmp_path: Path) -> None:
    root = written(tmp_path, "a/s.wav")
    (root / "b").mkdir()
    (root / "b/s.wav").symlink_to(root / "a/s.wav")
    assert len(find_audio(str(root)).named("s")) == 1
    (root / "b/s.wav").unlink()
    written(root, "b/s.wav")
    assert len(find_audio(str(root)).named("s")) == 2


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("asked", ["NFC", "NFD"])
def test_composed_and_decomposed_names_are_the_same(tmp_path: Path, stored: Form, asked: Form) -> None:
    root = written(tmp_path / "audio", normalize(stored, "Beyoncé/Déjà vu.wav"))
    for files in (find_audio(str(root)), find_audio(zipped(root, tmp_path / "audio.zip"))):
        assert len(files.named(normalize(asked, "Déjà vu"))) == 1
        assert len(files.named(normalize(asked, "Beyoncé/Déjà vu"))) == 1


@pytest.fixture(params=["folder", "zip"])
def files(tmp_path: Path, request: pytest.FixtureRequest) -> AudioFiles:
    root = written(tmp_path / "audio", "x/s.wav", "y/s.flac", "y/x/s.mp3", "y/.hidden", "top.wav")
    written(tmp_path, "secret.wav")
    return find_audio(str(root) if request.param == "folder" else zipped(root, tmp_path / "audio.zip"))


def test_an_id_with_slashes_is_a_path_below_the_folder(files: AudioFiles) -> None:
    found = [[path.rpartition("audio/")[2] for path in files.named(name)] for name in ("x/s", "y/s", "y/x/s", "s")]
    assert found == [["x/s.wav"], ["y/s.flac"], ["y/x/s.mp3"], ["x/s.wav", "y/s.flac", "y/x/s.mp3"]]


@pytest.mark.parametrize("name", ["../secret", "x/../../secret", "x/../top", "/x/s", "./top", "x//s", "y/", "..", "/"])
def test_no_id_leads_out_of_the_folder(files: AudioFiles, name: str) -> None:
    assert files.named(name) == []


def test_what_stands_beside_a_song_is_told_from_it_by_its_bytes(tmp_path: Path) -> None:
    root = written(tmp_path, "s.mp3")
    written(root, "s.jpg", data=JPEG)
    written(root, "s.txt", data=b"[Verse 1]\nla la")
    written(root, "s.lrc", data=b"")
    files = find_audio(str(root))
    assert choose_audio(files.system, files.named("s")) == str(root / "s.mp3")


def test_two_songs_or_none_under_one_name_are_told_apart(tmp_path: Path) -> None:
    root = written(tmp_path, "two.wav", "two.flac", "one.wav")
    written(root, "none.jpg", "none.txt", data=JPEG)
    (root / "none.mp3").symlink_to(root / "gone")
    files = find_audio(str(root))
    with pytest.raises(AudioAmbiguous, match=r"there are .*two\.flac, .*two\.wav"):
        choose_audio(files.system, files.named("two"))
    with pytest.raises(NoAudio, match=r"none of .*none\.jpg, .*none\.mp3, .*none\.txt is audio"):
        choose_audio(files.system, files.named("none"))
    assert choose_audio(files.system, ["not looked at"]) == "not looked at"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(written(tmp_path, "s.wav") / "s.mp3")
    assert below(tmp_path, find_audio(str(tmp_path)).named("s")) == ["s.wav"]


def test_a_folder_of_audio_that_is_empty_or_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder, or it holds no files"):
        find_audio(str(tmp_path))
    for audio in ("nothing-of-this-name://bucket", str(tmp_path / "none")):
        with pytest.raises(DataError, match="cannot be listed"):
            find_audio(audio)
