"""Embeddings in the reference's layout: read strictly, averaged as the scorer does."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from model.training.embeddings import check_no_overlap, pack, pack_splits, parquet_files, read_songs, split_path
from model.training.labels import AESTHETICS
from model.training.tables import DataError
from tests.model.synthetic import packed, rows, write_split, write_splits


def changed(table: pa.Table, column: str, row: int, value: object) -> pa.Table:
    values = table.column(column).to_pylist()
    values[row] = value
    index = table.schema.get_field_index(column)
    kind = pa.list_(pa.float32()) if column == "segment_embedding" else table.schema.field(column).type
    return table.set_column(index, column, pa.array(values, kind))


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("score_streams", None, "column 'score_streams', row 3: None is not a number"),
        ("score_likes", float("nan"), "column 'score_likes', row 3: nan is not a number"),
        ("score_likes", 100.5, "column 'score_likes', row 3: 100.5 is not between 0 and 100"),
        ("segment_id", "song0-0_1", "column 'segment_id', row 3: 'song0-0_1' is there twice"),
        ("audio_id", None, "column 'audio_id', row 3: is empty"),
        ("songeval_scores", None, "column 'songeval_scores', row 3: None is not a structure"),
        ("songeval_scores", dict.fromkeys(AESTHETICS, 0.5), "column 'coherence', row 3: 0.5 is not between 1 and 5"),
        ("segment_embedding", [0.0] * 5, "column 'segment_embedding', row 3: has 5 values, not 16"),
        ("segment_embedding", None, "column 'segment_embedding', row 3: has 0 values, not 16"),
        ("segment_embedding", [0.0] * 15 + [None], "column 'segment_embedding', row 3: holds NaN or infinity"),
        ("segment_embedding", [np.inf] * 16, "column 'segment_embedding', row 3: holds NaN or infinity"),
    ],
)
def test_a_fault_is_named_with_file_column_and_row(tmp_path: Path, column: str, value: object, sentence: str) -> None:
    data = write_split(tmp_path / "train", changed(rows(6), column, 2, value))
    with pytest.raises(DataError) as refused:
        pack(data, tmp_path / "packed", task="full", mode="song")
    assert str(data / "part-000001.parquet") in str(refused.value)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("vectors", "sentence"),
    [
        (pa.array(["a"] * 6), "row 1: is of type string, and no list of numbers"),
        (pa.array([["a"]] * 6), "row 1: is of type list<.*: string>, and no list of numbers"),
        (pa.array([1.0] * 6), "row 1: is of type double, and no list of numbers"),
        (pa.array([[]] * 6, pa.list_(pa.float32())), "row 1: is empty"),
        (pa.array([None] + [[1.0] * 16] * 5), "row 1: is empty"),
    ],
)
def test_what_is_no_list_of_numbers_is_refused(tmp_path: Path, vectors: pa.Array, sentence: str) -> None:
    table = rows(6)
    index = table.schema.get_field_index("segment_embedding")
    data = write_split(tmp_path / "train", table.set_column(index, "segment_embedding", vectors))
    with pytest.raises(DataError, match=f"part-000001.parquet: column 'segment_embedding', {sentence}"):
        pack(data, tmp_path / "packed", task="full", mode="song")


@pytest.mark.parametrize("column", ["audio_id", "segment_id", "platform", "score_likes", "segment_embedding"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    data = write_split(tmp_path / "train", rows(6).drop_columns([column]))
    with pytest.raises(DataError, match=f"has no column '{column}'"):
        pack(data, tmp_path / "packed", task="full", mode="song")


def test_songeval_columns_are_asked_for_by_task_full_alone(tmp_path: Path) -> None:
    data = write_split(tmp_path / "train", rows(6, full=False))
    assert read_songs(data, "popularity").targets.shape == (6, 2)
    with pytest.raises(DataError, match="has no column 'songeval_scores', which task full asks for"):
        read_songs(data, "full")


def test_songeval_scores_may_be_json_texts_as_the_reference_writes_them(tmp_path: Path) -> None:
    table = rows(6)
    texts = pa.array([json.dumps(record) for record in table.column("songeval_scores").to_pylist()])
    index = table.schema.get_field_index("songeval_scores")
    data = write_split(tmp_path / "train", table.set_column(index, "songeval_scores", texts))
    assert np.array_equal(read_songs(data, "full").targets, packed(tmp_path / "other", table).songs.targets)


def test_segments_of_one_song_that_disagree_are_refused(tmp_path: Path) -> None:
    data = write_split(tmp_path / "train", changed(rows(3, n_segments=2), "score_likes", 3, 1.0))
    with pytest.raises(DataError, match="column 'score_likes', row 4: differs from that of an earlier segment"):
        read_songs(data, "full")


def test_a_song_is_the_plain_mean_of_its_segments_wherever_they_stand(tmp_path: Path) -> None:
    table = rows(5, n_segments=3)
    shuffled = table.take(np.random.default_rng(0).permutation(15))
    data = write_split(tmp_path / "train", shuffled.slice(0, 7))
    write_split(tmp_path / "more", shuffled.slice(7))
    (tmp_path / "more/part-000001.parquet").rename(data / "part-000002.parquet")
    made = pack(data, tmp_path / "packed", task="full", mode="song")
    for song, vector in zip(made.songs.ids, made.vectors, strict=True):
        own = [row["segment_embedding"] for row in table.to_pylist() if row["audio_id"] == song]
        assert np.array_equal(vector, np.mean(np.array(own, np.float32), axis=0, dtype=np.float64).astype(np.float32))


def test_in_mode_segment_every_row_stays_and_knows_its_song(tmp_path: Path) -> None:
    made = packed(tmp_path, rows(4, n_segments=3), mode="segment")
    assert made.vectors.shape == (12, 16)
    assert made.song_of.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert isinstance(made.vectors, np.memmap), "data larger than memory are the operating system's to page"


def test_a_song_in_two_splits_is_refused(tmp_path: Path) -> None:
    first = packed(tmp_path / "a", rows(4)).songs
    val = write_split(tmp_path / "val", pa.concat_tables([rows(3, seed=1), rows(4).slice(2)]))
    with pytest.raises(DataError, match=r"part-000001.parquet: column 'audio_id', row 4: 'song0-2' is in another"):
        check_no_overlap(first, read_songs(val, "full"), val)


def test_no_two_of_three_splits_share_a_song(tmp_path: Path) -> None:
    write_splits(tmp_path / "emb", 20)
    write_split(tmp_path / "emb/test", rows(5, seed=1))
    with pytest.raises(DataError, match=r"test/part-000001.parquet: .* is in another split too"):
        pack_splits(tmp_path / "emb", tmp_path / "packed", ("train", "val", "test"), task="full", mode="song")


def test_a_split_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds neither a folder 'train' nor train.parquet"):
        split_path(tmp_path, "train")
    with pytest.raises(DataError, match="the split is empty"):
        parquet_files(write_split(tmp_path / "train", rows(4).slice(0, 0)))
