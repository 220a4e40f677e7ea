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
from typer.testing import CliRunner

from app.cli.main import app
from model.audio.decoder import Decoder
from model.domain import AudioLimits, DeviceError
from model.inference.scorer import Scorer, provenance
from model.training import extract as extraction
from model.training.embeddings import pack, read_provenance
from model.training.extract import ExtractConfig, extract, read_manifest
from model.training.labels import LabelConfig, label, write
from model.training.shards import Outcome
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


@pytest.mark.timeout(300)
def test_every_song_is_a_row_a_segment_or_a_failure_with_its_code(whole: Path, folder: Path) -> None:
    rows = all_rows(whole)
    assert failures(whole) == FAILURES
    assert {str(row["audio_id"]) for row in rows} == {f"s{i}" for i in range(N_SONGS)} - FAILURES.keys()
    assert [row["segment_id"] for row in rows if row["audio_id"] == "s5"] == ["s5_1", "s5_2"]
    assert {song.id for song in read_manifest(folder / "labels") if song.split == "val"} >= {
        row["audio_id"] for path in (whole / "val").glob("*") for row in pq.read_table(path).to_pylist()
    }


@pytest.mark.timeout(300)
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


@pytest.mark.timeout(300)
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
@pytest.mark.timeout(120 + 60 * N_KILLS)
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


#: Ends the process at the n-th of the steps that writing consists of, for n from 1 to 9 and again, until all is done.
CRASHES = """
import os, sys
from pathlib import Path
import numpy as np
from model.training import extract
from model.training import tables
from model.training.extract import ExtractConfig, Outcome

out = Path(sys.argv[2])
extract._provenance = lambda _: {"encoder": "none"}
vectors = np.arange(8, dtype=np.float32).reshape(2, 4)
extract._outcomes = lambda songs, *_: (
    Outcome(s, code="audio_silent") if s.id == "s7" else Outcome(s, vectors * int(s.id[1:])) for s in songs
)

def run(n_steps):
    left = [n_steps]
    def counted(step):
        def ending(*arguments, **options):
            left[0] -= 1
            if left[0] == 0: os._exit(9)
            return step(*arguments, **options)
        return ending
    for module, name in ((os, "fsync"), (os, "replace"), (tables.pq, "write_table")):
        setattr(module, name, counted(getattr(module, name)))
    try:
        extract.extract(Path(sys.argv[1]), "nowhere", out, ExtractConfig(Path("none"), shard_songs=2))
        os._exit(0)
    finally:
        os._exit(1)

for attempt in range(200):
    child = os.fork() or run(attempt % 9 + 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 9:
        sys.exit(status)
"""


def test_a_crash_at_any_step_of_writing_neither_loses_nor_doubles_a_song(folder: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", CRASHES, str(folder / "labels"), str(tmp_path)]
    subprocess.run(arguments, check=True)
    ids = [str(row["audio_id"]) for row in all_rows(tmp_path)]
    assert sorted(ids) == sorted([f"s{i}" for i in range(N_SONGS) if i != 7] * 2)
    assert failures(tmp_path) == {"s7": "audio_silent"}
    assert not list(tmp_path.rglob("*.partial"))


def test_a_song_in_two_splits_of_a_manifest_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "labels", tmp_path / "labels")
    shutil.copyfile(folder / "labels/train.parquet", tmp_path / "labels/val.parquet")
    with pytest.raises(DataError, match=r"val.parquet: column 'id', row 1: .* is in the split 'train' too"):
        read_manifest(tmp_path / "labels")


def test_the_references_jsonl_manifest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "songs.jsonl"
    path.write_text('{"id": "a", "score_streams": 3.5, "score_likes": 99, "platform": "suno"}\n')
    (song,) = read_manifest(path)
    assert song.labels == {"score_streams": 3.5, "score_likes": 99.0, "platform": "suno"}
    assert song.split == "songs"


@pytest.mark.parametrize("name", ["train/part-000001.parquet", "failures.parquet"])
def test_a_damaged_file_of_an_earlier_run_is_refused_by_its_name(
    folder: Path, tmp_path: Path, tiny_weights: Path, name: str
) -> None:
    (tmp_path / "emb/train").mkdir(parents=True)
    (tmp_path / "emb" / name).write_bytes(b"rubbish")
    with pytest.raises(DataError, match=f"{name}: cannot be read as Parquet"):
        extract(folder / "labels", str(folder / "audio"), tmp_path / "emb", ExtractConfig(tiny_weights, device="cpu"))


def test_cuda_is_not_waited_for_where_there_is_none(folder: Path, tmp_path: Path, tiny_weights: Path) -> None:
    config = ExtractConfig(tiny_weights, device="cuda:7")
    with pytest.raises(DeviceError, match="there is no device 'cuda:7'"):
        extract(folder / "labels", str(folder / "audio"), tmp_path / "emb", config)


@pytest.mark.parametrize("n_done", [0, 3], ids=["at first", "when there is nothing left to try"])
def test_a_run_in_which_every_song_failed_ends_with_exit_status_1(
    tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch, n_done: int
) -> None:
    codes = dict.fromkeys(("x/a", "x/b"), "audio_missing") | {"x/c": "unsupported_media_type"}
    lines = [f'{{"id": "{name}", "score_streams": 1, "score_likes": 1, "platform": "suno"}}' for name in codes]
    (tmp_path / "songs.jsonl").write_text("\n".join(lines))
    monkeypatch.setattr(extraction, "_outcomes", lambda songs, *_: (Outcome(s, code=codes[s.id]) for s in songs))
    out = tmp_path / "emb"
    if n_done:
        extract(tmp_path / "songs.jsonl", "", out, ExtractConfig(tiny_weights, device="cpu"))
    flags = ["--audio", str(tmp_path), "--weights", str(tiny_weights), "--device", "cpu", "--out", str(out)]
    done = CliRunner().invoke(app, ["extract", str(tmp_path / "songs.jsonl"), *flags])
    assert done.exit_code == 1
    summary = f"3 failed (2 audio_missing, 1 unsupported_media_type): {out}/failures.parquet says why"
    assert done.stderr.splitlines()[-2:] == [f"0 of 3 songs are in {out}", summary]
