"""Rows as Markdown."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

Rows = Sequence[dict[str, Any]]


def markdown(rows: Rows) -> str:
    """A table for each run of rows with the same columns."""
    return "\n".join(_table(columns, list(run)) for columns, run in groupby(rows, key=tuple))


def _table(columns: tuple[str, ...], rows: Rows) -> str:
    lines = [columns, ("---" for _ in columns), *(map(text, row.values()) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def text(value: object) -> str:
    if isinstance(value, dict):
        return f"{max(value.values()):.1g} at most"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value).replace("|", "/")
