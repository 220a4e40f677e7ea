"""One HTML page that a person reads: headings, sentences, tables and pictures in one file that asks nobody for more."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from model.files import write_text
from model.reports.plots import png

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem } img { max-width: 100% }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; font-size: 13px }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th:first-child, td:first-child { text-align: left } th { background: #f4f4f2 } .wide { overflow-x: auto }
"""

Cell = str | int | float | None


class Report:
    """Collects the parts of a page in order. Texts are escaped; what looks like HTML is shown, not obeyed."""

    def __init__(self, title: str) -> None:
        self._title = escape(title)
        self._parts = [f"<h1>{self._title}</h1>"]

    def heading(self, text: str) -> None:
        self._parts.append(f"<h2>{escape(text)}</h2>")

    def text(self, sentence: str) -> None:
        self._parts.append(f"<p>{escape(sentence)}</p>")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
        head = "".join(f"<th>{escape(name)}</th>" for name in header)
        body = "".join(f"<tr>{''.join(f'<td>{escape(shown(cell))}</td>' for cell in row)}</tr>" for row in rows)
        self._parts.append(f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>')

    def figure(self, figure: Figure, caption: str) -> None:
        data = base64.b64encode(png(figure)).decode()
        self._parts.append(f'<p><img alt="{escape(caption)}" src="data:image/png;base64,{data}"></p>')
        self.text(caption)

    def html(self) -> str:
        """The whole page."""
        head = f'<meta charset="utf-8"><title>{self._title}</title><style>{STYLE}</style>'
        return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(self._parts)}</body></html>\n'

    def write(self, path: Path) -> None:
        """Writes the page, which appears whole or not at all."""
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
