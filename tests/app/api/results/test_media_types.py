"""Content negotiation, as RFC 9110 has it."""

import pytest

from app.api.results.media_types import preferred

OFFERED = ["application/jsonl", "text/csv"]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "application/jsonl"),
        ("*/*", "application/jsonl"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV; charset=utf-8", "text/csv"),
        ("text/*", "text/csv"),
        ("text/csv;q=0.5, application/jsonl;q=0.4", "text/csv"),
        ("*/*;q=0.1, text/csv", "text/csv"),
        ("application/jsonl;q=0, */*", "text/csv"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/jsonl"),
        ("application/json", None),
        ("text/csv;q=0", None),
        ("text/csv;q=x", None),
        (";,;", None),
    ],
)
def test_the_format_that_is_liked_best_is_taken(accept: str, media_type: str | None) -> None:
    assert preferred(accept, OFFERED) == media_type
