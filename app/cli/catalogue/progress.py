"""How far a run over a catalogue is, and what came of it, on the terminal."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from app.cli.terminal import literal
from model.catalogue.engine import Progress as RunProgress
from model.catalogue.tracks import Summary

HOUR_S = 3_600.0


@contextmanager
def showing_progress(what: str = "tracks") -> Iterator[Callable[[RunProgress], None]]:
    """A bar on stderr with the rates below it, and what a run calls to move it."""
    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left")
    bars = Progress(*columns, TimeRemainingColumn())
    task = bars.add_task(what, total=None)
    first: list[tuple[float, Summary]] = []
    with Live(bars, console=Console(stderr=True)) as live:

        def show(now: RunProgress) -> None:
            if now.done.n_tracks and not first:  # rates count from here: networks were loaded before
                first.append((time.monotonic(), now.done))
            bars.update(task, completed=now.done.n_tracks, total=now.n_tracks)
            live.update(Group(bars, _rates(now.done, *first)))

        yield show
    if not live.console.is_terminal:
        live.console.line()  # where nothing moves, the last line is not ended


def _rates(done: Summary, since: tuple[float, Summary] | None = None) -> str:
    parts = [f"{done.audio_s / HOUR_S:,.1f} h of audio"]
    if since and (passed_s := time.monotonic() - since[0]) > 1:
        parts.insert(0, f"{(done.n_tracks - since[1].n_tracks) / passed_s:,.1f} tracks/s")
    return ", ".join([*parts, *_by_code(done)])


def _by_code(summary: Summary) -> list[str]:
    return [f"{n:,} {code}" for code, n in summary.failures.items()]


def print_summary(summary: Summary, out: str) -> None:
    """A table of all runs into this output."""
    table = Table(title=literal(out), show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("tracks", f"{summary.n_tracks:,}")
    table.add_row("scored", f"{summary.n_tracks - summary.n_failed:,}")
    for code, n in summary.failures.items():
        table.add_row(f"failed: {code}", f"{n:,}")
    table.add_row("hours of audio", f"{summary.audio_s / HOUR_S:,.2f}")
    Console().print(table)
