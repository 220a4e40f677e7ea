"""Reports as HTML."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from model.reports.html import Cell, Report, interval_text, shown


def test_texts_from_data_are_shown_and_not_obeyed() -> None:
    hostile = '<script>alert("1")</script>'
    page = Report(hostile)
    page.heading(hostile)
    page.text(hostile)
    page.table([hostile], [[hostile]])
    page.figure(Figure(), hostile)
    html = page.html()
    assert "<script>" not in html
    assert html.count("&lt;script&gt;") == 8
    assert '"1"' not in html


def test_a_page_is_one_file_with_its_parts_in_order(tmp_path: Path) -> None:
    page = Report("Title")
    page.heading("First")
    page.table(["name", "n"], [["a", 1_000], ["b", None]])
    page.figure(Figure(), "A figure.")
    page.write(tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text("utf-8")
    parts = ["<h1>Title", "<h2>First", "<th>name", "<td>1,000", "<td>–", "data:image/png;base64,", "<p>A figure."]
    assert [html.index(part) for part in parts] == sorted(html.index(part) for part in parts)
    assert "http" not in html


@pytest.mark.parametrize(("cell", "text"), [(None, "–"), ("a", "a"), (12_345, "12,345"), (0.12345, "0.123")])
def test_cells_are_written_for_reading(cell: Cell, text: str) -> None:
    assert shown(cell) == text


def test_an_interval_that_is_not_defined_is_a_dash() -> None:
    assert interval_text(None, [None, None]) == "–"
    assert interval_text(0.5, [0.25, 0.75]) == "0.500 [0.250, 0.750]"
