"""A plan depends on a manifest's tracks alone, and tells those apart that are there twice."""

import random
from pathlib import Path
from unicodedata import normalize

import pytest

from model.catalogue import plan as planning
from model.catalogue.plan import Bucket, Plan, PlanReader, write_plan
from model.catalogue.tracks import Track
from model.training.tables import DataError
from tests.model.catalogue.fakes import tracks


def planned(folder: Path, found: "list[Track]", bucket_tracks: int = 7) -> Plan:
    folder.mkdir()
    return write_plan(iter(found), folder, "m.csv", bucket_tracks=bucket_tracks)


def buckets(plan: Plan) -> list[Bucket]:
    with plan.file.open("rb") as file:
        reader = PlanReader(file)
        return [reader.bucket(index) for index in range(plan.n_buckets)]


def test_every_track_is_in_one_bucket_whatever_the_order_of_the_manifest(tmp_path: Path) -> None:
    found = list(tracks(500))
    first = planned(tmp_path / "a", found)
    random.Random(1).shuffle(found)
    second = planned(tmp_path / "b", found)
    assert (first.digest, buckets(first)) == (second.digest, buckets(second))
    ids = [track.id for bucket in buckets(first) for track in bucket.tracks]
    assert sorted(ids) == [track.id for track in tracks(500)]
    assert [len(bucket.tracks) for bucket in buckets(first)] == [7] * 71 + [3]


def test_what_belongs_to_a_track_makes_another_plan(tmp_path: Path) -> None:
    digests = {
        planned(tmp_path / str(number), [track]).digest
        for number, track in enumerate([Track("a", "b"), Track("a", "c"), Track("b", "b"), Track("a", "b", {"x": 1})])
    }
    assert len(digests) == 4


def test_what_does_not_identify_a_uri_makes_the_same_plan(tmp_path: Path) -> None:
    digests = {
        write_plan([Track("a", uri)], tmp_path, "m", bucket_tracks=1, identity=lambda uri: uri[0]).digest
        for uri in ("x1", "x2", "y1")
    }
    assert len(digests) == 2


def test_groups_are_in_different_files_that_count_from_one(tmp_path: Path) -> None:
    found = [Track(f"t{n}", "u", group=group) for group in ("val", "train") for n in range(8)]
    names = [bucket.name for bucket in buckets(planned(tmp_path / "a", found, 5))]
    assert names == [f"{group}/part-00000{n}.parquet" for group in ("train", "val") for n in (1, 2)]


def test_a_large_catalogue_has_larger_buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MAX_BUCKETS", 3)
    assert planned(tmp_path / "a", list(tracks(100))).n_buckets == 3


def test_names_that_are_no_text_come_back_as_they_were(tmp_path: Path) -> None:
    (bucket,) = buckets(planned(tmp_path / "a", [Track("a", "/music/\udcff.wav", {"platform": "ü"})]))
    assert bucket.tracks == [Track("a", "/music/\udcff.wav", {"platform": "ü"})]


@pytest.mark.parametrize("second", ["t", normalize("NFD", "é")])
def test_an_id_that_is_there_twice_is_refused_with_both_rows(tmp_path: Path, second: str) -> None:
    found = [Track("t", "1"), Track("é", "2"), Track(second, "3")]
    with pytest.raises(DataError, match=rf"m.csv: column 'id', row 3: .* is in row {1 if second == 't' else 2} too"):
        planned(tmp_path / "a", found)


def test_a_manifest_without_tracks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="m.csv: has no tracks"):
        planned(tmp_path / "a", [])
