"""Rows of a benchmark as a table on the screen, as files, and as a picture."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table

from benchmarks.gpu.tables import Rows, markdown, text

RESULTS = Path(__file__).parent / "results"
OURS, OTHERS, RED = "#2a6f97", "#b8b8b8", "#d1495b"


def save(part: str, title: str, rows: Rows, machine: dict[str, Any]) -> None:
    """Show the rows; write them to PART.json and PART.md, and draw PART.png."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{part}.json").write_text(json.dumps({"machine": machine, "rows": list(rows)}, indent=2) + "\n")
    (RESULTS / f"{part}.md").write_text(markdown(rows))
    Console().print(_table(title, rows))
    draw(part, title, rows)


def draw(part: str, title: str, rows: Rows) -> None:
    """Write the picture of a part."""
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    PICTURES[part](axes, rows)
    figure.savefig(RESULTS / f"{part}.png", dpi=120)
    plt.close(figure)


def _table(title: str, rows: Rows) -> Table:
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*map(text, row.values()))
    return table


def _bars(axes: Axes, rows: Rows, value: str, label: str, is_ours: Callable[[str], bool]) -> None:
    names = [row["way"] for row in rows]
    bars = axes.barh(names, [row[value] for row in rows], color=[OURS if is_ours(name) else OTHERS for name in names])
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.margins(x=0.12)


def engine(axes: Axes, rows: Rows) -> None:
    _bars(axes, rows, "cpu_s", "processor seconds for 30 s of music", lambda name: not name.startswith("loop"))


def front_end(axes: Axes, rows: Rows) -> None:
    alone = [row for row in rows if not row["way"].endswith("child")]
    _bars(axes, alone, "cpu_s", "processor seconds for 3 min of music", lambda name: name.endswith("ours"))


def service(axes: Axes, rows: Rows) -> None:
    for server in dict.fromkeys(row["server"] for row in rows):
        mine = [row for row in rows if row["server"] == server]
        color = OTHERS if server.startswith("LitServe") else None  # None: the next of the cycle
        axes.plot(
            [row["clients"] for row in mine], [row["tracks_per_min"] for row in mine], "o-", label=server, color=color
        )
    axes.set_xlabel("clients at a time")
    axes.set_ylabel("tracks of 30 s a minute")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({row["clients"] for row in rows}), sorted({row["clients"] for row in rows}))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def growth(axes: Axes, rows: Rows) -> None:
    memory = axes.twinx()
    memory.spines["top"].set_visible(False)
    axes.set_xlabel("length of the track, minutes")
    # Different headroom, so that two flat lines do not lie on each other.
    _flat(axes, rows, "cpu_s_per_segment", "processor seconds a segment", OURS, headroom=1.2)
    _flat(memory, rows, "peak_above_model_mb", "peak memory above the model, MB", RED, headroom=1.7)


def _flat(axes: Axes, rows: Rows, value: str, label: str, colour: str, headroom: float) -> None:
    values = [row[value] for row in rows]
    axes.plot([row["duration_s"] / 60 for row in rows], values, "o-", color=colour)
    axes.set_ylabel(label, color=colour)
    axes.set_ylim(0, headroom * max(values))


def queue(axes: Axes, rows: Rows) -> None:
    row = rows[0]
    keys = ("wall_ms_per_job", "cpu_ms_per_job", "of_it_within_the_run_ms")
    bars = axes.barh([key.replace("_", " ") for key in keys], [row[key] for key in keys], color=OURS)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds a job")


def padding(axes: Axes, rows: Rows) -> None:
    names = [f"{row['duration_s']:g} s" for row in rows]
    for offset, key, label, color in (
        (-0.2, "computed_s", "all computed", OTHERS),
        (0.2, "left_out_s", "left out", OURS),
    ):
        bars = axes.barh([index + offset for index in range(len(rows))], [row[key] for row in rows], 0.38, color=color)
        axes.bar_label(bars, fmt="%.1f", padding=3)
        bars.set_label(label)
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set_xlabel("seconds to embed a track of this length")
    axes.legend(frameon=False)
    axes.margins(x=0.12)


PICTURES: dict[str, Callable[[Axes, Rows], None]] = {
    "engine": engine,
    "front_end": front_end,
    "service": service,
    "growth": growth,
    "queue": queue,
    "padding": padding,
}
