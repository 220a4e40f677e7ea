"""Scoring files in this process, as `apex score` and `apex arena` do."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import wrap
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from app.cli.terminal import literal, note
from model.audio.decoder import Decoder
from model.audio.prefetch import PrefetchedTrack, prefetch
from model.domain import SEGMENT_S
from model.inference.scorer import Scorer, TrackError
from model.processors import usable_cores

UNTRAINED = "UNTRAINED stand-in weights: these scores mean nothing"
#: The longest value, 100.00, and the space before each.
VALUE_CHARS, GAP = 6, 2
UNLIMITED = 10_000


def score_files(
    files: Sequence[Path], decoder: Decoder, scorer: Scorer, progress: Progress
) -> Iterator[dict[str, Any]]:
    """For each file in order what becomes a line of JSON.

    `{"file", "scores", "warnings", "audio", "model"}`, or `{"file", "error"}` where there are no scores.

    The next files are decoded meanwhile, and their segments share the model's batches. The scores are those that each
    file gets alone.
    """
    bar = ScoringBar(progress, len(files))
    tracks = prefetch(files, decoder, n_threads=usable_cores())
    for track, outcome in scorer.score_many(tracks, on_progress=bar.segments_done):
        bar.track_done(track)
        yield _as_json(track, outcome, scorer)
    bar.remove()


def _as_json(track: PrefetchedTrack[Path], outcome: dict[str, float] | TrackError, scorer: Scorer) -> dict[str, Any]:
    if isinstance(outcome, TrackError):
        return {"file": str(track.file), "error": {"code": outcome.code, "detail": str(outcome)}}
    return {
        "file": str(track.file),
        "scores": outcome,
        "warnings": [asdict(warning) for warning in track.warnings],
        "audio": asdict(track.facts) if track.facts else {},
        "model": scorer.card.identity(),
    }


class ScoringBar:
    """How many segments are done, out of how many there will be if the other tracks are as long as those so far."""

    def __init__(self, progress: Progress, n_tracks: int) -> None:
        self._progress, self._n_tracks = progress, n_tracks
        self._task = progress.add_task("scoring", total=None, tracks=f"0/{n_tracks}", rate="")
        self._started_at = time.monotonic()
        self._n_segments = self._n_done = 0

    def segments_done(self, n_segments: int) -> None:
        rate = n_segments * SEGMENT_S / (time.monotonic() - self._started_at)
        self._progress.update(self._task, completed=n_segments, rate=f"{rate:.1f} × real time")

    def track_done(self, track: PrefetchedTrack[Path]) -> None:
        self._n_done += 1
        self._n_segments += track.n_segments
        expected = round(self._n_segments * self._n_tracks / self._n_done)
        self._progress.update(self._task, total=expected, tracks=f"{self._n_done}/{self._n_tracks}")

    def remove(self) -> None:
        self._progress.remove_task(self._task)


def scoring_progress() -> Progress:
    """The progress display that a `ScoringBar` fills, on stderr."""
    columns = (
        TextColumn("{task.fields[tracks]} tracks"),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def print_table(outcomes: Sequence[dict[str, Any]], scorer: Scorer) -> None:
    """One row a file, one column a score; where that is too wide, each file's name stands above its scores.

    What is odd about the files stands below.
    """
    scored = [outcome for outcome in outcomes if "scores" in outcome]
    if not scored:
        return
    console, names = Console(), tuple(scorer.card.scores)
    table = _one_line_a_file(names, scored)
    if _width(console, table) <= console.width:
        console.print(table)
    else:
        _print_two_lines_a_file(console, names, scored)
    _print_warnings(console, scored)
    if not scorer.card.trained:
        console.print(UNTRAINED, style="bold red")


def _one_line_a_file(names: Sequence[str], scored: Sequence[dict[str, Any]]) -> Table:
    table = Table("file")
    for name in names:
        table.add_column(name, justify="right")
    for outcome in scored:
        table.add_row(literal(outcome["file"]), *_values(outcome))
    return table


def _width(console: Console, table: Table) -> int:
    """How wide a table is that nothing limits."""
    return Measurement.get(console, console.options.update(max_width=UNLIMITED), table).maximum


def _print_two_lines_a_file(console: Console, names: Sequence[str], scored: Sequence[dict[str, Any]]) -> None:
    heads = [name.removeprefix("score_") for name in names]
    widths = [max(len(head), VALUE_CHARS) for head in heads]
    room = console.width - GAP * len(heads)
    if sum(widths) > room:  # the heads are folded then
        widths = [max(room // len(heads), VALUE_CHARS)] * len(heads)
    for line in _aligned(heads, widths):
        console.print(literal(line, "bold"), soft_wrap=True)
    for outcome in scored:
        console.print(literal(outcome["file"]), soft_wrap=True)
        console.print(literal(_aligned(_values(outcome), widths)[0]), soft_wrap=True)


def _print_warnings(console: Console, scored: Sequence[dict[str, Any]]) -> None:
    """What is odd about the files, a line each, below their scores."""
    for outcome in scored:
        for warning in outcome["warnings"]:
            said = Text.assemble(
                literal(outcome["file"]), literal(f": {warning['code']}: {warning['detail']}", "yellow")
            )
            console.print(said, soft_wrap=True)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Lines of right-aligned cells of these widths; what is longer goes on below."""
    folded = [wrap(cell, width) for cell, width in zip(cells, widths, strict=True)]
    padded = [[""] * (max(map(len, folded)) - len(parts)) + parts for parts in folded]
    return [
        "".join(f"{part:>{width + GAP}}" for part, width in zip(line, widths, strict=True))
        for line in zip(*padded, strict=True)
    ]


def _values(outcome: dict[str, Any]) -> list[str]:
    return [f"{value:.2f}" for value in outcome["scores"].values()]


def print_json(outcome: dict[str, Any]) -> None:
    """One outcome as a line of JSON on stdout, at once."""
    sys.stdout.write(json.dumps(outcome, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_error(outcome: dict[str, Any]) -> None:
    """The error of an outcome on stderr; nothing for one with scores."""
    if error := outcome.get("error"):
        said = Text.assemble(literal(outcome["file"], "red"), literal(f": {error['code']}: {error['detail']}"))
        Console(stderr=True).print(said, soft_wrap=True)


def print_failures(outcomes: Sequence[dict[str, Any]]) -> int:
    """How many files have no scores; if any, a sentence on stderr says so."""
    n_failed = sum("error" in outcome for outcome in outcomes)
    if n_failed:
        note(f"{n_failed:,} of {len(outcomes):,} files have no scores", "red")
    return n_failed
