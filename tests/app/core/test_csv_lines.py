"""Lines of CSV: what a spreadsheet would run is harmless, and everything else comes back as it was."""

import csv
import io

import pytest

from app.core.csv_lines import csv_line


def read(line: str) -> list[str]:
    [row] = csv.reader(io.StringIO(line, newline=""))
    return row


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1", '=HYPERLINK("x")'])
def test_text_that_begins_a_formula_is_given_an_apostrophe(text: str) -> None:
    assert read(csv_line([text])) == ["'" + text]


@pytest.mark.parametrize("text", ["a=b", "a,b", 'a"b', "a\nb", "ü", "", "1-2", "'x"])
def test_other_text_comes_back_as_it_was(text: str) -> None:
    assert read(csv_line([text, "x"])) == [text, "x"]


def test_numbers_and_nothing_are_left_as_they_are() -> None:
    assert csv_line([-1.5, 3, None, "x"]) == "-1.5,3,,x\r\n"
