"""Small tables as CSV, TSV, JSONL or Parquet, with every cell checked.

A fault raises a `DataError` that names the file, the column and the row. Rows are counted from 1, without the header
and blank lines. Knows nothing of what the columns mean. CSV and JSONL are not read with pyarrow, because its errors do
not name the row, and it would read the id "007" as the number 7.
"""

import csv
import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from unicodedata import normalize

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.arrays import Floats
from model.domain import ApexError
from model.files import atomic_write

MAX_SHOWN_CHARS = 60
MAX_SHOWN = 10
#: Rows of a Parquet file that are in memory at a time.
BATCH_ROWS = 8_192


class DataError(ApexError):
    """A file of data cannot be used; the text names the file, and the column and row where there is one."""


@dataclass(frozen=True)
class Table:
    """Columns of equal length from one file. Their values are as the file has them until a method asks for a kind."""

    path: Path
    columns: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    def values(self, column: str) -> Sequence[Any]:
        """A column as the file has it. Raises DataError when the file has none of that name."""
        if column not in self.columns:
            raise missing_column(self.path, column, self.columns)
        return self.columns[column]

    def texts(self, column: str) -> list[str]:
        """A column of texts, none of them empty; whole numbers count as texts."""
        return [text_cell(self.path, column, index, value) for index, value in enumerate(self.values(column))]

    def keys(self, column: str) -> list[str]:
        """A column of texts, no two of them the same in Unicode's composed form."""
        keys = self.texts(column)
        first: dict[str, int] = {}
        for index, key in enumerate(keys):
            if first.setdefault(composed(key), index) != index:
                self.fail(column, index, f"{key!r} is in row {first[composed(key)] + 1} too")
        return keys

    def numbers(self, column: str, low: float = -math.inf, high: float = math.inf) -> Floats:
        """A column of finite numbers within bounds, shape = (n_rows,)."""
        values = (self._number(column, index, value) for index, value in enumerate(self.values(column)))
        numbers = np.fromiter(values, np.float64, len(self))
        if (outside := np.flatnonzero((numbers < low) | (numbers > high))).size:
            index = int(outside[0])
            allowed = f"between {low:g} and {high:g}" if math.isfinite(high) else f"at least {low:g}"
            self.fail(column, index, f"{numbers[index]:g} is not {allowed}")
        return numbers

    def choices(self, column: str, allowed: Collection[str]) -> list[str]:
        """A column of texts, each one of those allowed."""
        texts = self.texts(column)
        for index, text in enumerate(texts):
            if text not in allowed:
                self.fail(column, index, f"{text!r:.{MAX_SHOWN_CHARS}} is not one of {', '.join(allowed)}")
        return texts

    def flags(self, column: str) -> NDArray[np.bool_]:
        """A column of true and false, or of 1 and 0, shape = (n_rows,)."""
        texts = [str(value).lower() for value in self.values(column)]
        for index, text in enumerate(texts):
            if text not in FLAGS:
                self.fail(column, index, f"{text!r:.{MAX_SHOWN_CHARS}} is neither true nor false")
        return np.array([FLAGS[text] for text in texts], np.bool_)

    def records(self, column: str) -> list[Mapping[str, Any]]:
        """A column of structures, or of JSON texts of them."""
        return [self._record(column, index, value) for index, value in enumerate(self.values(column))]

    def fail(self, column: str, index: int, fault: str) -> NoReturn:
        """Raises the DataError for one cell; `index` counts from 0."""
        raise cell_error(self.path, column, index, fault)

    def _number(self, column: str, index: int, value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number) or isinstance(value, bool):
            self.fail(column, index, f"{value!r:.{MAX_SHOWN_CHARS}} is not a number")
        return number

    def _record(self, column: str, index: int, value: Any) -> Mapping[str, Any]:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                self.fail(column, index, "is not JSON")
        if not isinstance(value, Mapping):
            self.fail(column, index, f"{value!r:.{MAX_SHOWN_CHARS}} is not a structure")
        return value


FLAGS = {"true": True, "false": False, "1": True, "0": False}


def composed(text: str) -> str:
    """A text in Unicode's composed form (NFC): the same name may come decomposed (NFD) from another system."""
    return normalize("NFC", text)


def spelling_warning(column: str, texts: Iterable[str]) -> str | None:
    """A sentence that names the texts of a column that differ only by case or blanks; None where there are none."""
    spellings: dict[str, list[str]] = {}
    for text in sorted(set(texts)):
        spellings.setdefault("".join(composed(text).casefold().split()), []).append(text)
    alike = [" and ".join(map(repr, group)) for group in spellings.values() if len(group) > 1]
    if not alike:
        return None
    more = f"; and {len(alike) - MAX_SHOWN:,} more" if len(alike) > MAX_SHOWN else ""
    return f"{column}: these differ only by case or blanks and count as different: {'; '.join(alike[:MAX_SHOWN])}{more}"


def read_table(path: Path) -> Table:
    """The table in a file, by its suffix in any case: .csv, .tsv, .jsonl or .parquet.

    Raises DataError, also for a table without rows.
    """
    table = Table(path, _transposed(read_rows(path)))
    if not len(table):
        raise DataError(f"{path}: has no rows")
    return table


def read_rows(
    path: Path, columns: Collection[str] | None = None, *, name: str | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of such a file one by one: memory does not grow with their number. Raises DataError as `read_table`.

    columns : all that a Parquet file is read for; None for whatever it holds. Other files are read whole.
    name : of the file, with its suffix, where the path is that of a copy
    """
    shown = name or str(path)
    if not path.exists():
        raise DataError(f"{shown}: there is no such file")
    if (suffix := os.path.splitext(shown)[1].lower()) not in READERS:
        raise DataError(f"{shown}: is none of {', '.join(READERS)}")
    try:
        yield from READERS[suffix](path, columns)
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        raise DataError(f"{shown}: cannot be read: {' '.join(str(error).split())}") from error


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a Parquet file that appears whole or not at all, and is on the disk when this returns."""
    with atomic_write(path, durable=True) as unfinished:
        pq.write_table(table, unfinished, compression="zstd")


def cell_error(path: Path | str, column: str, index: int, fault: str) -> DataError:
    """The error for one cell; `index` counts from 0, the row in the text from 1."""
    return DataError(f"{path}: column {column!r}, row {index + 1}: {fault}")


def text_cell(path: Path | str, column: str, index: int, value: Any) -> str:
    """The text of a cell, which is not empty; a whole number counts as one. Raises DataError."""
    if type(value) is int:
        return str(value)
    if not isinstance(value, str) or not value.strip():
        fault = "is empty" if value in (None, "") else f"{value!r:.{MAX_SHOWN_CHARS}} is no text"
        raise cell_error(path, column, index, fault)
    return value


def missing_column(path: Path | str, column: str, present: Iterable[str]) -> DataError:
    """The error for a file that lacks a column."""
    return DataError(f"{path}: has no column {column!r}; its columns are {', '.join(present) or 'none'}")


def _csv_rows(path: Path, _: Collection[str] | None, dialect: str = "excel") -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, dialect=dialect)
        header = list(reader.fieldnames or ())
        if len(set(header)) < len(header):
            raise ValueError("two columns have the same name")
        for index, row in enumerate(reader):
            if None in row or None in row.values():
                raise ValueError(f"row {index + 1} has another number of cells than the header, {len(header)}")
            yield row


def _jsonl_rows(path: Path, _: Collection[str] | None) -> Iterator[dict[str, Any]]:
    # Split at line feeds only: JSON texts may contain the other characters that end a line.
    with path.open(encoding="utf-8-sig", newline="\n") as lines:
        for index, line in enumerate(line for line in lines if line.strip()):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"row {index + 1} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"row {index + 1} is not a JSON object")
            yield row


def _parquet_rows(path: Path, columns: Collection[str] | None) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        wanted = [name for name in file.schema_arrow.names if columns is None or name in columns]
        for batch in file.iter_batches(BATCH_ROWS, columns=wanted):
            yield from batch.to_pylist()


def _transposed(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Columns of rows, some of which may lack some."""
    columns: dict[str, list[Any]] = {}
    for index, row in enumerate(rows):
        columns.update((name, [None] * index) for name in row if name not in columns)
        for name, column in columns.items():
            column.append(row.get(name))
    return columns


READERS: dict[str, Callable[[Path, Collection[str] | None], Iterator[dict[str, Any]]]] = {
    ".csv": _csv_rows,
    ".jsonl": _jsonl_rows,
    ".parquet": _parquet_rows,
    ".tsv": partial(_csv_rows, dialect="excel-tab"),
}
