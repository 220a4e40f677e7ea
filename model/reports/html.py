"""One HTML page for a person to read: headings, sentences, tables and pictures in one file that loads nothing else."""

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from model.files import write_text
from model.reports.plots import png

Cell = str | int | float | None


class Report:
    """Collects the parts of a page in order. Every text is escaped."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._parts: list[tuple[str, object]] = []

    def heading(self, text: str) -> None:
        self._parts.append(("heading", text))

    def text(self, sentence: str) -> None:
        self._parts.append(("text", sentence))

    def table(self, header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
        self._parts.append(("table", {"header": header, "rows": list(rows)}))

    def figure(self, figure: Figure, caption: str) -> None:
        self._parts.append(("figure", {"png": base64.b64encode(png(figure)).decode(), "caption": caption}))

    def html(self) -> str:
        """The whole page."""
        return TEMPLATES.get_template("report.html").render(title=self._title, parts=self._parts)

    def write(self, path: Path) -> None:
        """Write the page, which appears whole or not at all."""
        write_text(path, self.html())


def shown(cell: Cell) -> str:
    """A cell as text: whole numbers with separators, others to three decimals, nothing as a dash."""
    match cell:
        case None:
            return "–"
        case str():
            return cell
        case int():
            return f"{cell:,}"
    return f"{cell:.3f}"


def interval_text(value: float | None, bounds: Sequence[float | None]) -> str:
    """A value with its interval, as text; a dash where it is not defined."""
    return shown(None) if value is None else f"{shown(value)} [{shown(bounds[0])}, {shown(bounds[1])}]"


TEMPLATES = Environment(
    loader=PackageLoader("model.reports"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
TEMPLATES.filters["shown"] = shown
