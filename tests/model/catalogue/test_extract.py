"""Extraction loses no song and doubles none, and its embeddings are the service's own."""

import os
import random
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from model.audio.decoder import Decoder
from model.catalogue.extract import ExtractConfig, extract, read_manifest
from model.domain import AudioLimits, DeviceError
from model.inference.scorer import Scorer, provenance
from model.training.embeddings import pack, read_provenance
from model.training.labels import LabelConfig, label, write
from model.training.tables import DataError
from tests.model.conftest import make_track
from tests.model.training.test_labels import write_counts

#: Kills in the default run; the campaign asks for 20.
N_KILLS = int(os.environ.get("APEX_KILLS", "1"))
N_SONGS = 16
#: Beside the songs that decode: one that is no audio, one silent, one that is there twice, one that is not there.
FAILURES = {
    "s1": "unsupported_media_type",
    "s2": "audio_silent",
    "s3": "audio_ambiguous",
    "s4": "audio_missing",
}
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of 16 songs, and 13 of them as files in four formats: one a link, one with its cover beside it."""
    root = tmp_path_factory.mktemp("catalogue")
    config = LabelConfig(fractions=(0.6, 0.2, 0.2))
    write(label(write_counts(root / "counts.csv", N_SONGS), config), root / "labels", config)
    (root / "audio/deep").mkdir(parents=True)
    for i in range(N_SONGS):
        path = root / ("audio/deep" if i % 2 else "audio") / f"s{i}{SUFFIXES[i % 4]}"
        soundfile.write(path, make_track(31.0 if i == 5 else 1.5, 22_050, 2, seed=i), 22_050)
    (root / "audio/deep/s1.flac").write_bytes(b"RIFFnothing")
    soundfile.write(root / "audio/s2.ogg", np.zeros((33_075, 2)), 22_050)
    shutil.copyfile(root / "audio/deep/s3.mp3", root / "audio/s3.wav")
    (root / "audio/s4.wav").unlink()
    (root / "audio/s10.ogg").rename(root / "blob")
    (root / "audio/s10.ogg").symlink_to(root / "blob")
    (root / "audio/deep/s7.jpg").write_bytes(b"\xff\xd8\xff\xe0 cover")
    return root


def command(folder: Path, out: Path, weights: Path, audio: str | None = None) -> list[str]:
    audio = audio or str(folder / "audio")
    flags = ["--audio", audio, "--weights", str(weights), "--out", str(out), "--device", "cpu", "--shard-songs", "2"]
    return [sys.executable, "-m", "app.cli", "extract", str(folder / "labels"), *flags]


def all_rows(out: Path) -> list[dict[str, object]]:
    rows = [row for path in sorted(out.glob("*/part-*.parquet")) for row in pq.read_table(path).to_pylist()]
    return sorted(rows, key=lambda row: str(row["segment_id"]))


def failures(out: Path) -> dict[str, str]:
    return {row["id"]: row["code"] for row in pq.read_table(out / "failures.parquet").to_pylist()}


@pytest.fixture(scope="module")
def whole(folder: Path, tiny_weights: Path) -> Path:
    """What an uninterrupted run wrote."""
    subprocess.run(command(folder, folder / "emb", tiny_weights), check=True, capture_output=True)
    return folder / "emb"


@pytest.mark.timeout(900)
def test_every_song_is_a_row_a_segment_or_a_failure_with_its_code(whole: Path, folder: Path) -> None:
    rows = all_rows(whole)
    assert failures(whole) == FAILURES
    assert {str(row["audio_id"]) for row in rows} == {f"s{i}" for i in range(N_SONGS)} - FAILURES.keys()
    assert [row["segment_id"] for row in rows if row["audio_id"] == "s5"] == ["s5_1", "s5_2"]
    assert {song.id for song in read_manifest(folder / "labels") if song.group == "val"} >= {
        row["audio_id"] for path in (whole / "val").glob("*") for row in pq.read_table(path).to_pylist()
    }


@pytest.mark.timeout(900)
def test_the_embeddings_are_those_that_the_service_computes(
    whole: Path, folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    scorer = Scorer.load(tiny_weights, device="cpu")
    rows = {str(row["segment_id"]): row["segment_embedding"] for row in all_rows(whole)}
    with Decoder(AudioLimits(), scratch_dir=tmp_path) as decoder:
        for name in ("s5.flac", "s6.ogg"):
            path = next((folder / "audio").rglob(name))
            with decoder.decode(path) as track:
                for number, vector in enumerate(scorer.embed(track.segments()), start=1):
                    # Another number of threads is another order of summing: a few 1e-5 in values of about 1.
                    np.testing.assert_allclose(np.asarray(rows[f"{path.stem}_{number}"]), vector, atol=2e-4)


@pytest.mark.timeout(900)
def test_the_files_say_which_encoder_and_layer_mix_they_come_from(
    whole: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    assert read_provenance(whole / "train") == provenance(tiny_weights)
    assert pack(whole / "train", tmp_path, task="full", mode="song").dim == 32


@pytest.fixture(scope="module")
def archive(folder: Path) -> str:
    """The same audio in an archive, as a URL: the second file of a song in another folder."""
    path = folder / "audio.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in (folder / "audio").rglob("*.*"):
            archive.write(file, f"more/{file.name}" if file.name == "s3.wav" else file.name)
    return f"zip://::{path}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_has_failed_is_tried_again_and_joins_the_others(
    whole: Path, folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "emb")
    shutil.copytree(folder / "audio", tmp_path / "audio", symlinks=True)
    shutil.copyfile(folder / "audio/s0.wav", tmp_path / "audio/s4.wav")
    (tmp_path / "audio/s3.wav").unlink()
    line = command(folder, tmp_path / "emb", tiny_weights, str(tmp_path / "audio"))
    subprocess.run(line, check=True, capture_output=True)
    assert all_rows(tmp_path / "emb") == all_rows(whole), "nothing is tried again by itself"
    subprocess.run([*line, "--retry-failures"], check=True, capture_output=True)
    rows = all_rows(tmp_path / "emb")
    assert failures(tmp_path / "emb") == {name: FAILURES[name] for name in ("s1", "s2")}
    assert [row for row in rows if row["audio_id"] not in ("s3", "s4")] == all_rows(whole)
    assert {row["audio_id"] for row in rows} >= {"s3", "s4"}


@pytest.mark.slow
@pytest.mark.timeout(900 + 60 * N_KILLS)
def test_a_run_killed_at_random_moments_ends_with_the_same_rows_and_values_from_any_storage(
    whole: Path, folder: Path, archive: str, tiny_weights: Path, tmp_path: Path
) -> None:
    moments = random.Random(N_KILLS)
    for _ in range(N_KILLS):
        with subprocess.Popen(command(folder, tmp_path, tiny_weights), stderr=subprocess.DEVNULL) as process:
            wait_for_shard(tmp_path, process)
            time.sleep(moments.uniform(0, 0.5))
            process.kill()
    subprocess.run(command(folder, tmp_path, tiny_weights, archive), check=True, capture_output=True)
    assert all_rows(tmp_path) == all_rows(whole)
    assert failures(tmp_path) == FAILURES


def wait_for_shard(out: Path, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a run has written one more shard than there were, or has ended."""
    before = len(list(out.glob("*/part-*")))
    while len(list(out.glob("*/part-*"))) == before and process.poll() is None:
        time.sleep(0.02)


def test_a_song_in_two_splits_of_a_manifest_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "labels", tmp_path / "labels")
    shutil.copyfile(folder / "labels/train.parquet", tmp_path / "labels/val.parquet")
    with pytest.raises(DataError, match=r"val.parquet: column 'id', row 1: .* is in the split 'train' too"):
        read_manifest(tmp_path / "labels")


def test_the_references_jsonl_manifest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "songs.jsonl"
    path.write_text('{"id": "a", "score_streams": 3.5, "score_likes": 99, "platform": "suno"}\n')
    (song,) = read_manifest(path)
    assert song.about == {"score_streams": 3.5, "score_likes": 99.0, "platform": "suno"}
    assert song.group == "songs"


def test_an_output_of_an_earlier_version_is_refused(folder: Path, tmp_path: Path, tiny_weights: Path) -> None:
    (tmp_path / "emb/train").mkdir(parents=True)
    (tmp_path / "emb/train/part-000001.parquet").write_bytes(b"")
    with pytest.raises(DataError, match="emb: was begun by an earlier version of this program; choose another --out"):
        extract(folder / "labels", str(folder / "audio"), tmp_path / "emb", ExtractConfig(tiny_weights, device="cpu"))


def test_cuda_is_not_waited_for_where_there_is_none(folder: Path, tmp_path: Path, tiny_weights: Path) -> None:
    config = ExtractConfig(tiny_weights, device="cuda:7")
    with pytest.raises(DeviceError, match="there is no device 'cuda:7'"):
        extract(folder / "labels", str(folder / "audio"), tmp_path / "emb", config)


@pytest.mark.timeout(900)
def test_a_run_in_which_every_song_failed_ends_with_exit_status_1(tmp_path: Path, tiny_weights: Path) -> None:
    (tmp_path / "labels").mkdir()
    lines = [f'{{"id": "{name}", "score_streams": 1, "score_likes": 1, "platform": "suno"}}' for name in "abc"]
    (tmp_path / "labels/songs.jsonl").write_text("\n".join(lines))
    (tmp_path / "c.wav").write_bytes(b"no audio")
    line = command(tmp_path, tmp_path / "emb", tiny_weights, str(tmp_path))
    line[line.index(str(tmp_path / "labels"))] += "/songs.jsonl"
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 1
    summary = f"3 failed (2 audio_missing, 1 unsupported_media_type): {tmp_path}/emb/failures.parquet says why"
    assert done.stderr.splitlines()[-2:] == [f"0 of 3 songs are in {tmp_path}/emb", summary]
