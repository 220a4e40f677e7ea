"""Whatever is wrong with a table is said in one sentence with file, column and row."""

import json
from pathlib import Path

import pytest

from model.files import write_json
from model.training.tables import DataError, read_table, spelling_warning


def csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "counts.csv"
    path.write_text(text)
    return path


def read_all(path: Path) -> None:
    table = read_table(path)
    table.keys("id")
    table.numbers("streams", 0, 10)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,n\na,1\n", "has no column 'streams'; its columns are id, n"),
        ("id,streams\na,1\nb,\n", "column 'streams', row 2: '' is not a number"),
        ("id,streams\na,1\nb,nan\n", "column 'streams', row 2: 'nan' is not a number"),
        ("id,streams\na,1\nb,1e999\n", "column 'streams', row 2: '1e999' is not a number"),
        ("id,streams\na,1\nb,-3\n", "column 'streams', row 2: -3 is not between 0 and 10"),
        ("id,streams\na,1\nb,2\na,3\n", "column 'id', row 3: 'a' is in row 1 too"),
        ("id,streams\na,1\n ,2\n", "column 'id', row 2: ' ' is no text"),
        ("id,streams\na,1\nb\n", "row 2 has another number of cells than the header, 2"),
        ("id,id\na,1\n", "two columns have the same name"),
        ("id,streams\n", "has no rows"),
    ],
)
def test_a_fault_is_named_with_file_column_and_row(tmp_path: Path, text: str, sentence: str) -> None:
    path = csv(tmp_path, text)
    with pytest.raises(DataError) as refused:
        read_all(path)
    assert str(path) in str(refused.value)
    assert sentence in str(refused.value)


def test_the_same_rows_are_read_from_csv_and_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "counts.jsonl"
    path.write_text('{"id": 7, "streams": 3}\n{"id": "b", "streams": 4.5}\n')
    ours, other = read_table(path), read_table(csv(tmp_path, "id,streams\n7,3\nb,4.5\n"))
    assert ours.keys("id") == other.keys("id") == ["7", "b"]
    assert ours.numbers("streams").tolist() == other.numbers("streams").tolist() == [3.0, 4.5]


def test_a_jsonl_text_may_hold_any_line_separator_but_the_line_feed(tmp_path: Path) -> None:
    path = tmp_path / "battles.jsonl"
    path.write_text('\ufeff{"id": "a", "prompt": "one\u2028two\x85three"}\n{"id": "b", "prompt": "four"}\n', "utf-8")
    assert read_table(path).texts("prompt") == ["one\u2028two\x85three", "four"]


def test_numbers_too_large_for_a_float_and_below_a_lowest_one_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "counts.jsonl"
    path.write_text(f'{{"streams": 1{"0" * 400}}}\n')
    with pytest.raises(DataError, match="column 'streams', row 1: .* is not a number"):
        read_table(path).numbers("streams", low=0)
    path.write_text('{"streams": -1}\n')
    with pytest.raises(DataError, match="column 'streams', row 1: -1 is not at least 0"):
        read_table(path).numbers("streams", low=0)


def test_a_file_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="counts.csv: there is no such file"):
        read_table(tmp_path / "counts.csv")


@pytest.mark.parametrize("text", ["{", "[1]", '{"id": 1}\nnonsense\n'])
def test_a_line_that_is_no_json_object_is_refused_with_its_row(tmp_path: Path, text: str) -> None:
    path = tmp_path / "counts.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match="row [12] is not"):
        read_table(path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "counts.xlsx").touch()
    with pytest.raises(DataError, match=r"is none of .csv, .jsonl, .parquet"):
        read_table(tmp_path / "counts.xlsx")


def test_json_is_written_without_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": None})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None}
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"a": float("nan")})


@pytest.mark.parametrize("name", ["counts.CSV", "counts.tsv", "counts.TSV", "counts.JSONL", "counts.csv"])
def test_the_suffix_says_how_a_table_is_read_in_any_case(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(
        {".csv": 'id,title\na,"b,c"\n', ".tsv": "id\ttitle\na\tb,c\n", ".jsonl": '{"id": "a", "title": "b,c"}\n'}[
            Path(name).suffix.lower()
        ]
    )
    table = read_table(tmp_path / name)
    assert (table.keys("id"), table.texts("title")) == (["a"], ["b,c"])


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_blank_lines_of_jsonl_are_no_rows(tmp_path: Path, newline: str) -> None:
    path = tmp_path / "counts.jsonl"
    path.write_bytes(newline.join(["", '{"id": "a"}', "", " \t", '{"id": "b"}', "", ""]).encode())
    assert read_table(path).keys("id") == ["a", "b"]
    path.write_bytes(newline.join(['{"id": "a"}', "", "nonsense"]).encode())
    with pytest.raises(DataError, match="row 2 is not JSON"):
        read_table(path)


def test_ids_that_differ_only_by_their_unicode_form_are_the_same(tmp_path: Path) -> None:
    path = csv(tmp_path, "id\nDéjà\nDe\u0301ja\u0300\n")
    with pytest.raises(DataError, match="column 'id', row 2: .* is in row 1 too"):
        read_table(path).keys("id")


def test_texts_that_differ_only_by_case_or_blanks_are_named() -> None:
    assert spelling_warning("platform", ["suno", "udio", "suno"]) is None
    warning = spelling_warning("platform", ["suno", "SUNO", "udio ", "udio", "other", "Ud io"])
    assert warning == (
        "platform: these differ only by case or blanks and count as different: "
        "'SUNO' and 'suno'; 'Ud io' and 'udio' and 'udio '"
    )
    many = spelling_warning("artist", [name for i in range(12) for name in (f"a{i}", f"A{i}")])
    assert str(many).endswith("; and 2 more")
