"""Manifests are read row by row, and what is wrong in one is told in a sentence."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.catalogue.manifest import list_folder, read_manifest
from model.catalogue.tracks import Track
from model.training.tables import DataError

TRACKS = [Track("007", "a.wav", {"platform": "suno"}), Track("8", "b.wav")]


def resolve(uri: str) -> str:
    if uri.startswith("ftp:"):
        raise ValueError("is of no kind that is read")
    return uri


def read(path: Path) -> list[Track]:
    return list(read_manifest(path, resolve))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_tables_of_every_format_say_the_same(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    if suffix == ".parquet":
        columns = {"id": ["007", "8"], "uri": ["a.wav", "b.wav"], "platform": ["suno", None], "more": [1, 2]}
        pq.write_table(pa.table(columns), path)
    elif suffix == ".jsonl":
        path.write_text('{"id": "007", "uri": "a.wav", "platform": "suno"}\n{"id": 8, "uri": "b.wav"}\n\n')
    else:
        lines = ["id,uri,platform,more", "007,a.wav,suno,1", "8,b.wav,,2"]
        path.write_text("\n".join(lines).replace(",", "\t" if suffix == ".tsv" else ","))
    assert read(path) == TRACKS


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("m.csv", "name,uri\na,b\n", "m.csv: has no column 'id'; its columns are name, uri"),
        ("m.csv", "id,url\na,b\n", "m.csv: has no column 'uri'"),
        ("m.csv", "id,uri\na\n", "m.csv: cannot be read: row 1 has another number of cells"),
        ("m.csv", "id,uri\na,b\n,c\n", "m.csv: column 'id', row 2: is empty"),
        ("m.csv", "id,uri\na,ftp://host/x.wav\n", "m.csv: column 'uri', row 1: is of no kind that is read"),
        ("m.csv", "id,uri\na\x1bb,x.wav\n", r"column 'id', row 1: 'a\\x1bb' holds what cannot be printed"),
        ("m.jsonl", '{"id": "a", "uri": "b"}\n{"id": "c"}\n', "m.jsonl: column 'uri', row 2: is empty"),
        ("m.jsonl", '{"id": "a", "uri": \n', "m.jsonl: cannot be read: row 1 is not JSON"),
        ("m.parquet", "rubbish", "m.parquet: cannot be read"),
        ("m.csv", None, "m.csv: there is no such file"),
        ("m.xml", "<a/>", "m.xml: is none of .csv, .jsonl, .parquet, .tsv"),
    ],
)
def test_what_is_wrong_in_a_manifest_is_told_with_its_place(
    tmp_path: Path, name: str, text: str | None, fault: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=fault) as error:
        read(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_folder_is_listed_with_its_audio_at_any_depth(tmp_path: Path) -> None:
    for name in ("b/x.MP3", "a.wav", "cover.jpg", "notes.txt", os.fsdecode(b"b/\xff.ogg")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [(track.id, track.uri) for track in list_folder(tmp_path)] == [
        ("a.wav", str(tmp_path / "a.wav")),
        ("b/x.MP3", str(tmp_path / "b/x.MP3")),
        ("b/\\xff.ogg", str(tmp_path / os.fsdecode(b"b/\xff.ogg"))),
    ]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(list_folder(tmp_path / "none"))
