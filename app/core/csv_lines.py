"""Lines of CSV that a spreadsheet can be given."""

import csv
import io
from collections.abc import Iterable

#: What a spreadsheet takes for the beginning of a formula, also after it has dropped white space.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_line(cells: Iterable[object]) -> str:
    """One line, ended as RFC 4180 says. None is an empty cell.

    Text that a spreadsheet would take for a formula is given an apostrophe before it, which no spreadsheet shows;
    numbers are left as they are.
    """
    line = io.StringIO()
    csv.writer(line).writerow([_cell(cell) for cell in cells])
    return line.getvalue()


def _cell(cell: object) -> object:
    if isinstance(cell, str) and cell.lstrip(" \n\x00").startswith(_FORMULA):
        return "'" + cell
    return cell
