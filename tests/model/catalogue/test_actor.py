"""An actor makes a bucket's file: a row a track, whatever is wrong with it, and none where the machine is at fault."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from model.catalogue.extract import FAILURES_KEY, EmbeddingRows
from model.catalogue.rows import ScoreRows
from model.catalogue.sources import Unavailable
from model.catalogue.tracks import Summary
from model.domain import WeightsError
from model.training.embeddings import METADATA_KEY, SEGMENT, SONG
from model.training.tables import DataError
from tests.model.catalogue.fakes import FakeDecoder, FakeTrack, actor

URIS = {"a": "1", "b": "silent", "c": "3", "d": "absent"}
PART = "part-000001.parquet"


def run(folder: Path, uris: dict[str, str], **choices: Any) -> Summary:
    """What an actor says of the one bucket with these tracks."""
    with actor(folder, uris, **choices) as running:
        return running.run(0)


def rows(folder: Path) -> dict[str, dict[str, object]]:
    return {row["id"]: row for row in pq.read_table(folder / "out" / PART).to_pylist()}


def test_a_track_that_fails_is_a_row_with_its_code(tmp_path: Path) -> None:
    summary = run(tmp_path, URIS)
    assert (summary.n_tracks, summary.audio_s) == (4, 360.0)
    assert summary.failures == {"audio_silent": 1, "file_unreadable": 1}
    found = rows(tmp_path)
    assert {key: row["code"] for key, row in found.items()} == {
        "a": None,
        "b": "audio_silent",
        "c": None,
        "d": "file_unreadable",
    }
    assert found["d"]["detail"] == "No such file or directory"
    assert (found["b"]["coherence"], found["b"]["duration_s"]) == (None, None)
    assert found["a"]["duration_s"] == 180.0


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    first = run(tmp_path, URIS)
    before = (tmp_path / "out" / PART).stat().st_mtime_ns
    assert run(tmp_path, URIS, version="not looked at") == first
    assert (tmp_path / "out" / PART).stat().st_mtime_ns == before


def test_embeddings_stand_beside_the_same_scores(tmp_path: Path) -> None:
    for name in ("with", "without"):
        run(tmp_path / name, URIS, rows=ScoreRows(embeddings=name == "with"))
    expected = rows(tmp_path / "without")
    for key, row in rows(tmp_path / "with").items():
        assert (row.pop("embedding") is None) == (expected[key]["code"] is not None)
        assert row == expected[key]


def test_a_fault_of_the_machine_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="tracks cannot be decoded: No space left on device"):
        run(tmp_path, {"a": "1", "b": "fault"})
    assert not (tmp_path / "out" / PART).exists()


def test_other_weights_on_a_node_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="a node has other weights"):
        run(tmp_path, URIS, version="apex-other")


def test_a_damaged_file_of_an_earlier_run_is_refused_by_its_name(tmp_path: Path) -> None:
    run(tmp_path, URIS)
    (tmp_path / "out" / PART).write_bytes(b"rubbish")
    with pytest.raises(DataError, match=f"{PART}: cannot be read as Parquet that an earlier run wrote"):
        run(tmp_path, URIS)


@pytest.mark.parametrize("embeddings", [True, False])
def test_what_has_failed_is_tried_again_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embeddings: bool
) -> None:
    chosen = ScoreRows(embeddings)
    run(tmp_path, URIS, rows=chosen)
    before, tried = rows(tmp_path), []
    decode = FakeDecoder.decode

    def heard(self: FakeDecoder, file: object) -> object:
        tried.append(file.read() if file.seek(0) == 0 else None)  # type: ignore[attr-defined]
        file.seek(0)  # type: ignore[attr-defined]
        return decode(self, type(file)(b"2"))  # type: ignore[call-arg, arg-type]

    monkeypatch.setattr(FakeDecoder, "decode", heard)
    summary = run(tmp_path, URIS, rows=chosen, retry_failures=True)
    assert (summary.n_tracks, summary.failures, summary.audio_s) == (4, {"file_unreadable": 1}, 540.0)
    assert tried == [b"silent"]
    after = rows(tmp_path)
    assert list(after) == list(before)
    assert {key for key in after if after[key] != before[key]} == {"b"}
    assert run(tmp_path, URIS, rows=chosen, retry_failures=True) == summary


def test_embeddings_for_training_are_a_row_a_segment_with_labels_and_failures_are_told_apart(tmp_path: Path) -> None:
    chosen = EmbeddingRows(2, full=False, provenance={"encoder": "none"})
    summary = run(tmp_path, URIS, rows=chosen)
    assert summary.failures == {"audio_silent": 1, "file_unreadable": 1}
    table = pq.read_table(tmp_path / "out" / PART)
    assert sorted(zip(*(table.column(name).to_pylist() for name in (SONG, SEGMENT)), strict=True)) == [
        ("a", "a_1"),
        ("c", "c_1"),
    ]
    assert json.loads(table.schema.metadata[METADATA_KEY]) == {"encoder": "none"}
    failed = {row["id"]: row["code"] for row in json.loads(table.schema.metadata[FAILURES_KEY])}
    assert failed == {"b": "audio_silent", "d": "file_unreadable"}


def test_a_bucket_in_which_every_song_failed_is_a_file_without_rows(tmp_path: Path) -> None:
    chosen = EmbeddingRows(2, full=True, provenance={})
    assert run(tmp_path, {"b": "silent"}, rows=chosen).n_failed == 1
    assert pq.read_table(tmp_path / "out" / PART).num_rows == 0


def test_songs_that_are_tried_again_join_the_rows_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = EmbeddingRows(2, full=False, provenance={})
    run(tmp_path, URIS, rows=chosen)
    before = pq.read_table(tmp_path / "out" / PART).to_pylist()
    monkeypatch.setattr(FakeDecoder, "decode", lambda *_: FakeTrack(b"2"))
    summary = run(tmp_path, URIS, rows=chosen, retry_failures=True)
    assert summary.failures == {"file_unreadable": 1}
    after = pq.read_table(tmp_path / "out" / PART)
    assert [row for row in after.to_pylist() if row[SONG] != "b"] == before
    assert sorted(after.column(SONG).to_pylist()) == ["a", "b", "c"]
    assert [row["id"] for row in json.loads(after.schema.metadata[FAILURES_KEY])] == ["d"]
