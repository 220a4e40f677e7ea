"""`apex catalogue score`: the scores of `apex score` for every track, in files that no crash and no twin spoils."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from app.cli.main import app
from model.audio.synthesizer import synthesise, write_wav
from model.domain import SCORE_RANGES, ApexError
from model.weights.directory import write_stand_in

N_TRACKS = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tracks of one and of two segments, one that is no audio, one that is absent, and a table that names them."""
    folder = tmp_path_factory.mktemp("catalogue")
    (folder / "audio").mkdir()
    for number in range(N_TRACKS):
        samples = synthesise(duration_s=31.0 if number == 3 else 1.5, sample_rate_hz=16_000, seed=number)
        write_wav(folder / f"audio/{number}.wav", samples, 16_000)
    (folder / "audio/broken.wav").write_bytes(b"RIFFnothing")
    lines = [f"{name},audio/{name}.wav,suno" for name in [*map(str, range(N_TRACKS)), "broken", "absent"]]
    (folder / "tracks.csv").write_text("\n".join(["id,uri,platform", *lines]))
    return folder


def command(*arguments: object, weights: Path) -> tuple[list[str], Mapping[str, str]]:
    environment = os.environ | {"APEX_WEIGHTS_DIR": str(weights), "APEX_DEVICE": "cpu", "COLUMNS": "200"}
    return [sys.executable, "-m", "app.cli", *map(str, arguments)], environment


def run(*arguments: object, weights: Path) -> "subprocess.CompletedProcess[str]":
    line, environment = command(*arguments, weights=weights)
    return subprocess.run(line, env=environment, capture_output=True, text=True)


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("[!.]*")}


@pytest.fixture(scope="module")
def whole(folder: Path, tiny_weights: Path) -> "subprocess.CompletedProcess[str]":
    """An undisturbed run into `out`."""
    flags = ["--out", folder / "out", "--bucket-tracks", 3]
    return run("catalogue", "score", folder / "tracks.csv", *flags, weights=tiny_weights)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_track_has_the_scores_of_apex_score_to_the_last_digit(
    whole: "subprocess.CompletedProcess[str]", folder: Path, tiny_weights: Path
) -> None:
    paths = sorted((folder / "audio").glob("[0-9].wav"))
    lines = run("score", "--json", *paths, weights=tiny_weights).stdout.splitlines()
    expected = {Path(row["file"]).stem: row["scores"] for row in map(json.loads, lines)}
    rows = [row for path in folder.glob("out/part-*") for row in pq.read_table(path).to_pylist()]
    scored = {row["id"]: {name: row[name] for name in SCORE_RANGES} for row in rows if not row["code"]}
    assert len(expected) == N_TRACKS
    assert scored == expected
    assert {row["platform"] for row in rows} == {"suno"}


@pytest.mark.timeout(900)
def test_failures_are_told_by_code_and_end_with_exit_status_1(
    whole: "subprocess.CompletedProcess[str]", folder: Path
) -> None:
    assert whole.returncode == 1, whole.stderr
    table = [line.split("│")[1:3] for line in whole.stdout.splitlines() if "│" in line]
    assert {name.strip(): value.strip() for name, value in table} == {
        "tracks": "12",
        "scored": "10",
        "failed: file_unreadable": "1",
        "failed: unsupported_media_type": "1",
        "hours of audio": "0.01",
    }
    assert "12/12" in whole.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_runs_side_by_side_write_what_one_does(
    whole: "subprocess.CompletedProcess[str]", folder: Path, tiny_weights: Path
) -> None:
    flags = ["--out", folder / "twice", "--bucket-tracks", 3, "--allow-failures", 2]
    line, environment = command("catalogue", "score", folder / "tracks.csv", *flags, weights=tiny_weights)
    twins = [subprocess.Popen(line, env=environment, stderr=subprocess.PIPE) for _ in range(2)]
    errors = [twin.communicate()[1].decode() for twin in twins]
    assert [twin.returncode for twin in twins] == [0, 0], errors
    assert files(folder / "twice") == files(folder / "out")


def refused(*arguments: object, weights: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The sentence with which the command ends."""
    monkeypatch.setenv("APEX_DEVICE", "cpu")
    line = ["catalogue", "score", *map(str, arguments), "--out", str(out), "--weights", str(weights)]
    done = CliRunner().invoke(app, line)
    assert isinstance(done.exception, ApexError), done.output
    return str(done.exception)


@pytest.mark.timeout(900)
def test_an_output_of_something_else_is_refused(
    whole: "subprocess.CompletedProcess[str]", folder: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, tracks = folder / "out", folder / "tracks.csv"
    before = files(out)
    write_stand_in(folder / "other", size="tiny", seed=1)
    shutil.copyfile(tracks, folder / "more.csv")
    with (folder / "more.csv").open("a") as file:
        file.write("\nmore,audio/1.wav,udio")
    for words, arguments, weights in (
        ("another manifest", [folder / "more.csv", "--bucket-tracks", 3], tiny_weights),
        ("other weights, or another head", [tracks, "--bucket-tracks", 3], folder / "other"),
        ("another kind of output", [tracks, "--bucket-tracks", 3, "--embeddings"], tiny_weights),
        ("another size of its files", [tracks], tiny_weights),
    ):
        sentence = refused(*arguments, weights=weights, out=out, monkeypatch=monkeypatch)
        assert sentence == f"{out}: was begun with {words}; choose another --out"
    assert files(out) == before


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("id,uri\na,x.wav\nb,y.wav\na,z.wav\n", "column 'id', row 3: 'a' is in row 1 too"),
        ("id,path\na,x.wav\n", "has no column 'uri'; its columns are id, path"),
        ("id,uri\n", "has no tracks"),
        (None, "there is no such file"),
    ],
)
def test_a_manifest_that_cannot_be_used_ends_in_a_sentence(
    tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, fault: str
) -> None:
    manifest = tmp_path / "m.csv"
    if text is not None:
        manifest.write_text(text)
    out = tmp_path / "out"
    sentence = refused(manifest, weights=tiny_weights, out=out, monkeypatch=monkeypatch)
    assert sentence == f"{manifest}: {fault}"
    assert not out.exists()
