"""Labels for training from raw counts, and the splits into train, val and test.

A song's label is its percentile rank among the songs of its platform, raised to a power. The paper's exponent is not
public: the default, 1, leaves the percentile as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import rankdata

from model.arrays import Floats
from model.domain import SCORE_RANGES, TASK_SCORES
from model.reports import plots
from model.reports.html import Report
from model.training.splits import DEFAULT_FRACTIONS, SPLITS, assign
from model.training.tables import DataError, Table, composed, read_table, spelling_warning, write_parquet

#: The column of counts behind each popularity score.
COUNTS = {"score_streams": "streams", "score_likes": "likes"}
AESTHETICS = tuple(name for name in TASK_SCORES["full"] if name not in COUNTS)
#: A column of structures that may replace the five columns of aesthetic scores, as in the reference.
STRUCTURE = "songeval_scores"
ID, PLATFORM = "id", "platform"


@dataclass(frozen=True)
class LabelConfig:
    """Options of labels and splits."""

    exponent: float = 1.0  # of score = 100 * (percentile / 100) ** exponent
    pool: bool = False  # one pool of all platforms instead of one each
    group: str | None = None  # the column whose songs stay together, such as artist
    fractions: tuple[float, float, float] = DEFAULT_FRACTIONS
    seed: int = 42


@dataclass(frozen=True)
class Labels:
    """The labels of a catalogue: one entry a song, in the order of the file."""

    ids: list[str]
    platforms: list[str]
    scores: Mapping[str, Floats]
    split: NDArray[np.int64]
    warnings: tuple[str, ...] = ()


def label(counts: Path, config: LabelConfig, aesthetics: Path | None = None) -> Labels:
    """The labels and the split of each song in a table of counts.

    counts     : columns id, platform, streams and likes; the aesthetic scores too, unless they come by themselves
    aesthetics : a table of id and the aesthetic scores, as five columns or as one of structures
    Raises DataError naming file, column and row.
    """
    table = read_table(counts)
    ids, platforms = table.keys(ID), table.texts(PLATFORM)
    pools = ["all"] * len(table) if config.pool else platforms
    scores = {
        score: percentile_scores(table.numbers(column, low=0), pools, config.exponent)
        for score, column in COUNTS.items()
    }
    scores |= _joined(read_table(aesthetics), ids, counts) if aesthetics else aesthetic_scores(table)
    groups = table.texts(config.group) if config.group else ids
    split = assign(groups, platforms, config.fractions, config.seed)
    _check_not_empty(split, counts)
    names = {PLATFORM: platforms, **({config.group: groups} if config.group else {})}
    warnings = filter(None, (spelling_warning(column, texts) for column, texts in names.items()))
    return Labels(ids, platforms, scores, split, tuple(warnings))


def percentile_scores(counts: Floats, pools: Sequence[str], exponent: float = 1.0) -> Floats:
    """Percentile ranks within each pool, ties averaged, as 100 * (rank / n) ** exponent; above 0, at most 100."""
    if not 0 < exponent < np.inf:
        raise DataError(f"the exponent is a number above 0, not {exponent:g}")
    names = np.array(pools)
    scores = np.empty(len(counts))
    for name in set(pools):
        members = names == name
        scores[members] = 100.0 * (rankdata(counts[members]) / members.sum()) ** exponent
    return scores


def aesthetic_scores(table: Table) -> dict[str, Floats]:
    """The five aesthetic scores of a table, from five columns or from `songeval_scores`; empty when it has neither."""
    if STRUCTURE in table:
        table = _unnested(table)
    elif not any(name in table for name in AESTHETICS):
        return {}
    return {name: table.numbers(name, *SCORE_RANGES[name]) for name in AESTHETICS}


def write(labels: Labels, directory: Path, config: LabelConfig) -> None:
    """Write train.parquet, val.parquet, test.parquet and report.html into a directory, created if missing."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(SPLITS):
        write_parquet(directory / f"{name}.parquet", _as_arrow(labels, np.flatnonzero(labels.split == number)))
    report(labels, config).write(directory / "report.html")


def report(labels: Labels, config: LabelConfig) -> Report:
    """How many songs are where, and how their labels are spread."""
    page = Report("Labels")
    pool = "all platforms together" if config.pool else "its own platform"
    page.text(
        f"{len(labels.ids):,} songs. A popularity score is the percentile rank of a count within {pool}, ties "
        f"averaged, as 100 · (rank / n)^{config.exponent:g}. The exponent of the published model is not known; "
        "1 leaves the percentiles as they are."
    )
    together = f"songs with the same {config.group} stay together" if config.group else "by song"
    page.text(f"Split {together}, alike on each platform, with seed {config.seed}.")
    for warning in labels.warnings:
        page.text(f"Warning: {warning}.")
    page.heading("Songs")
    page.table(["platform", *SPLITS, "all"], _counts(labels))
    page.heading("Labels")
    page.figure(_histograms(labels), "Labels in each split, as shares of its songs: the outlines should lie together.")
    return page


def _joined(aesthetics: Table, ids: list[str], counts: Path) -> dict[str, Floats]:
    """The aesthetic scores in the order of these songs."""
    row_of = {composed(key): row for row, key in enumerate(aesthetics.keys(ID))}
    composed_ids = [*map(composed, ids)]
    for index, key in enumerate(composed_ids):
        if key not in row_of:
            raise DataError(f"{aesthetics.path}: column {ID!r}: lacks {key!r} of {counts}, row {index + 1}")
    if not (scores := aesthetic_scores(aesthetics)):
        raise DataError(f"{aesthetics.path}: has neither the column {STRUCTURE!r} nor {', '.join(AESTHETICS)}")
    rows = [row_of[key] for key in composed_ids]
    return {name: values[rows] for name, values in scores.items()}


def _unnested(table: Table) -> Table:
    records = table.records(STRUCTURE)
    columns = {name: [record.get(name) for record in records] for name in AESTHETICS}
    return replace(table, columns=columns)


def _check_not_empty(split: NDArray[np.int64], path: Path) -> None:
    for number, name in enumerate(SPLITS):
        if not (split == number).any():
            raise DataError(
                f"{path}: the split {name!r} would be empty: more songs or groups, or other shares, are due"
            )


def _as_arrow(labels: Labels, rows: NDArray[np.int64]) -> pa.Table:
    columns: dict[str, Any] = {ID: [labels.ids[row] for row in rows], PLATFORM: [labels.platforms[row] for row in rows]}
    columns |= {name: labels.scores[name][rows] for name in COUNTS}
    if set(AESTHETICS) <= labels.scores.keys():
        arrays = [pa.array(labels.scores[name][rows]) for name in AESTHETICS]
        columns[STRUCTURE] = pa.StructArray.from_arrays(arrays, names=list(AESTHETICS))
    return pa.table(columns)


def _counts(labels: Labels) -> list[list[str | int]]:
    platforms = np.array(labels.platforms)
    rows = {name: platforms == name for name in sorted(set(labels.platforms))} | {"all": np.ones(len(platforms), bool)}
    return [
        [name, *(int((member & (labels.split == number)).sum()) for number in range(len(SPLITS))), int(member.sum())]
        for name, member in rows.items()
    ]


def _histograms(labels: Labels) -> Figure:
    def draw(axes: Axes, name: str) -> None:
        groups = {split: labels.scores[name][labels.split == number] for number, split in enumerate(SPLITS)}
        plots.histogram(axes, groups, SCORE_RANGES[name])

    return plots.panels(labels.scores, draw)
