"""Manifests, tracks and outputs in a bucket, in a folder and on hosts; the bucket is a real S3 server's."""

import os
from collections.abc import Mapping
from pathlib import Path

import obstore
import pytest

from app.cli.catalogue.places import Places, open_output
from app.cli.serving.embedded_s3 import BUCKET
from app.core.settings import WorkerSettings
from app.core.storage.location import parse_location
from app.core.storage.object_store import connect
from model.catalogue.output import OutputFolder
from model.catalogue.sources import Unavailable
from model.catalogue.tracks import Track
from model.training.tables import DataError


@pytest.fixture
def url(s3: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix of the test's own with two tracks, their cover, and a table of them."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{BUCKET}/{tmp_path.name}"
    store = connect(parse_location(url), 30)
    for name in ("music/a.wav", "music/deep/what?#%20 ü.mp3", "music/a.jpg"):
        obstore.put(store, name, name.encode())
    obstore.put(store, "tracks.csv", b"id,uri\na,music/a.wav\nb,music/none.wav\n")
    return url


@pytest.fixture
def places() -> Places:
    return Places.of(WorkerSettings(storage_timeout_s=3))


def read(places: Places, uri: str) -> bytes:
    with places.open(uri) as file:
        return file.read()


def test_a_prefix_is_listed_and_its_tracks_are_read(places: Places, url: str) -> None:
    found = sorted(places.tracks(f"{url}/music"), key=lambda track: track.id)
    assert [track.id for track in found] == ["a.wav", "deep/what?#%20 ü.mp3"]
    assert [read(places, track.uri) for track in found] == [f"music/{track.id}".encode() for track in found]


def test_a_table_in_a_bucket_names_tracks_beside_it(places: Places, url: str) -> None:
    tracks = list(places.tracks(f"{url}/tracks.csv"))
    assert tracks == [Track("a", f"{url}/music/a.wav"), Track("b", f"{url}/music/none.wav")]
    assert read(places, tracks[0].uri) == b"music/a.wav"
    with pytest.raises(FileNotFoundError):
        places.open(tracks[1].uri)


def test_of_two_that_create_an_object_one_does(url: str) -> None:
    output = open_output(f"{url}/out", 30)
    assert [output.create("a/b", b"1"), output.create("a/b", b"2")] == [True, False]
    output.replace("c", b"3")
    for name, data in (("a/b", b"1"), ("c", b"3")):
        with output.open(name) as file:
            assert file.read() == data
    with pytest.raises(FileNotFoundError):
        output.open("none")


@pytest.mark.parametrize("uri", [f"s3://{BUCKET}-none/a.wav", "s3://away/a.wav"])
def test_a_store_that_fails_is_no_fault_of_a_track(
    places: Places, url: str, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    if "away" in uri:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="s3://"):
        places.open(uri)


def test_files_of_this_machine_are_named_by_path_or_url(places: Places, tmp_path: Path) -> None:
    (tmp_path / "a b.wav").write_bytes(b"1")
    table = tmp_path / "tracks.jsonl"
    uris = ["a b.wav", str(tmp_path / "a b.wav"), (tmp_path / "a b.wav").as_uri()]
    table.write_text("\n".join(f'{{"id": {number}, "uri": "{uri}"}}' for number, uri in enumerate(uris)))
    for name in (str(table), table.as_uri(), os.path.relpath(table)):
        assert [read(places, track.uri) for track in places.tracks(name)] == [b"1"] * 3
    assert [track.id for track in places.tracks(tmp_path.as_uri())] == ["a b.wav"]


@pytest.mark.parametrize(
    ("uri", "fault"),
    [
        ("ftp://host/a.wav", "must be a path or begin with file:///, s3://, gs://, az:// or https://"),
        ("http://host.example/a.wav", "cannot be fetched: Only https is called."),
        ("https://user:hush@host.example/a.wav", "cannot be fetched: A URL may have no user name"),
        ("https://169.254.169.254/latest", "cannot be fetched: The host has an address that is not called."),
        ("s3://bucket", "does not name a bucket and an object"),
        ("s3://b/a.wav", "must name a bucket"),
        ("file://host/a.wav", "must name a folder by its whole path"),
    ],
)
def test_a_track_that_cannot_be_read_from_anywhere_is_refused_with_its_row(
    places: Places, tmp_path: Path, uri: str, fault: str
) -> None:
    (tmp_path / "m.csv").write_text(f"id,uri\na,{uri}\n")
    with pytest.raises(DataError, match=f"m.csv: column 'uri', row 1: {fault}") as error:
        list(places.tracks(str(tmp_path / "m.csv")))
    assert "hush" not in str(error.value)


@pytest.mark.parametrize(
    ("manifest", "fault"),
    [
        ("https://host.example/music", "a host cannot be listed; name the tracks in a table"),
        ("http://host.example/m.csv?signature=hush", "m.csv: cannot be read: cannot be fetched: Only https is called."),
        (f"s3://{BUCKET}/none.csv", "none.csv: cannot be read: there is no such object"),
        (f"s3://{BUCKET}-none/music", r"cannot be listed: .*\(NoSuchBucket\)"),
        ("ftp://host/m.csv", "cannot be read: must be a path or begin with"),
    ],
)
def test_a_manifest_that_cannot_be_read_ends_in_a_sentence(places: Places, url: str, manifest: str, fault: str) -> None:
    with pytest.raises(DataError, match=fault) as error:
        list(places.tracks(manifest))
    assert "hush" not in str(error.value)
    assert "\n" not in str(error.value)


def test_an_output_is_a_folder_or_a_prefix(tmp_path: Path) -> None:
    for out in (str(tmp_path / "out"), (tmp_path / "out").as_uri()):
        output = open_output(out, 1)
        assert isinstance(output, OutputFolder)
        assert output.directory == tmp_path / "out"
    for out in ("https://host/out", "ftp://host", "s3://b"):
        with pytest.raises(DataError, match="^--out must"):
            open_output(out, 1)
