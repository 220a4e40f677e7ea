"""Figures of the reports, as PNG without a display. Knows nothing of files or HTML."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from model.arrays import Floats

DPI = 100
PANEL_INCHES = (3.4, 2.7)
N_BINS = 20
#: More points than this are drawn as a density, because overlapping dots hide each other.
MAX_DOTS = 3_000
#: Up to so many points are drawn large, because a few small ones are easily missed.
MANY_DOTS = 200
BLUE, RED, GREY = "#2f6f9f", "#b5482f", "#8a8a8a"


def png(figure: Figure) -> bytes:
    """The picture's bytes; the same figure gives the same bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def panels(titles: Iterable[str], draw: Callable[[Axes, str], None], *, n_columns: int = 4) -> Figure:
    """One small plot a title, in rows; `draw` fills each."""
    names = list(titles)
    n_rows = -(-len(names) // n_columns)
    n_columns = min(n_columns, len(names))
    size = (PANEL_INCHES[0] * n_columns, PANEL_INCHES[1] * n_rows)
    figure = Figure(figsize=size, layout="constrained")
    for index, name in enumerate(names):
        axes = figure.add_subplot(n_rows, n_columns, index + 1)
        axes.set_title(name, fontsize=10)
        axes.tick_params(labelsize=8)
        draw(axes, name)
    return figure


def histogram(axes: Axes, groups: Mapping[str, Floats], bounds: tuple[float, float]) -> None:
    """One outline a group, as shares of the group, so that groups of any size can be compared."""
    for name, values in groups.items():
        weights = np.full(len(values), 1 / max(1, len(values)))
        axes.hist(
            values, bins=N_BINS, range=bounds, weights=weights, histtype="step", label=f"{name} ({len(values):,})"
        )
    axes.set_ylabel("share", fontsize=8)
    axes.legend(fontsize=7, frameon=False)


def scatter(axes: Axes, truth: Floats, predicted: Floats, bounds: tuple[float, float]) -> None:
    """Predictions against targets with the line where both are equal."""
    if len(truth) > MAX_DOTS:
        axes.hexbin(truth, predicted, gridsize=40, extent=(*bounds, *bounds), bins="log", cmap="Blues", linewidths=0)
    else:
        many = len(truth) > MANY_DOTS
        axes.plot(truth, predicted, ".", markersize=3 if many else 7, alpha=0.5 if many else 0.8, color=BLUE)
    _square(axes, bounds)
    axes.set_xlabel("target", fontsize=8)
    axes.set_ylabel("prediction", fontsize=8)


def calibration(axes: Axes, truth: Floats, predicted: Floats, bounds: tuple[float, float]) -> None:
    """Mean target of songs with similar predictions; on the diagonal, the two agree."""
    order = np.array_split(np.argsort(predicted, kind="stable"), min(10, len(predicted)))
    means = np.array([(predicted[part].mean(), truth[part].mean()) for part in order])
    errors = [truth[part].std() / np.sqrt(len(part)) for part in order]
    axes.errorbar(means[:, 0], means[:, 1], yerr=errors, marker="o", markersize=3, linewidth=1, color=BLUE)
    _square(axes, bounds)
    axes.set_xlabel("prediction, in tenths of the songs", fontsize=8)
    axes.set_ylabel("mean target ± s.e.", fontsize=8)


def curves(axes: Axes, epochs: Sequence[int], lines: Mapping[str, Sequence[float]], ylabel: str) -> None:
    """Lines over the epochs."""
    for (name, values), color in zip(lines.items(), (BLUE, RED, GREY), strict=False):
        axes.plot(epochs, values, linewidth=1.2, label=name, color=color, marker="." if len(epochs) < 3 else None)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_xlabel("epoch", fontsize=8)
    axes.set_ylabel(ylabel, fontsize=8)
    axes.legend(fontsize=7, frameon=False)


def interval_chart(
    names: Sequence[str], groups: Mapping[str, Sequence[tuple[float, float, float] | None]], xlabel: str
) -> Figure:
    """Values with intervals: a row a name, a colour a group. Each value is (value, low, high), or None."""
    figure = Figure(figsize=(8.4, 1.0 + 0.1 * len(names) * (len(groups) + 1)), layout="constrained")
    axes = figure.add_subplot()
    for position, (group, triples) in enumerate(groups.items()):
        rows = [(row, *triple) for row, triple in enumerate(triples) if triple]
        _points(axes, rows, group, offset=(position - (len(groups) - 1) / 2) * 0.8 / len(groups))
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)  # a name may hold dollar signs
    axes.set_ylim(len(names) - 0.4, -0.6)  # the first on top
    axes.set_xlabel(xlabel, fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def reference_line(figure: Figure, x: float) -> Figure:
    """Add an upright dashed line, for instance where chance lies."""
    figure.axes[0].axvline(x, color=GREY, linestyle="--", linewidth=1)
    return figure


def _points(axes: Axes, rows: Sequence[tuple[float, ...]], label: str, offset: float) -> None:
    table: NDArray[np.float64] = np.array(rows, np.float64).reshape(-1, 4)
    at, value, low, high = table.T
    spread: ArrayLike = np.maximum(0, [value - low, high - value])
    axes.errorbar(value, at + offset, xerr=spread, fmt="o", markersize=3.5, linewidth=1.2, label=label)


def _square(axes: Axes, bounds: tuple[float, float]) -> None:
    axes.plot(bounds, bounds, color=GREY, linewidth=0.8, linestyle="--")
    axes.set_xlim(*bounds)
    axes.set_ylim(*bounds)
