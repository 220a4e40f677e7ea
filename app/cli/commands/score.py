"""`apex score`: files in, scores out, in this process. The same decoder and model as the service's."""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from app.cli.commands.settings import load_settings
from app.cli.commands.up import require_weights
from app.core.settings import WorkerSettings
from model.audio.decoder import Decoder
from model.audio.prefetch import PrefetchedTrack, prefetch
from model.domain import SEGMENT_S
from model.inference.scorer import Scorer, TrackError
from worker.environment import usable_cores

UNTRAINED = "UNTRAINED stand-in weights: these scores mean nothing"


def run(files: list[Path], *, as_json: bool, head: Path | None = None) -> int:
    """Score each file and print it; the exit status is 1 when any could not be scored."""
    settings = load_settings(WorkerSettings)
    require_weights(settings.weights_dir)
    scorer = Scorer.load(settings.weights_dir, head=head, **settings.engine_options)
    outcomes = []
    with decoder_of(settings) as decoder, _progress() as progress:
        for outcome in score_files(files, decoder, scorer, progress):
            outcomes.append(outcome)
            _print_line(outcome) if as_json else _print_error(outcome)
    if not as_json:
        print_table(outcomes, scorer)
    return int(any("error" in outcome for outcome in outcomes))


def score_files(
    files: Sequence[Path], decoder: Decoder, scorer: Scorer, progress: Progress
) -> Iterator[dict[str, Any]]:
    """For each file in order `{"file", "scores", "audio", "model"}`, or `{"file", "error"}` where there are no scores.

    The next files are decoded meanwhile, and their segments share the model's batches. The scores are those that each
    file gets alone.
    """
    bar = Bar(progress, len(files))
    tracks = prefetch(files, decoder, n_threads=usable_cores())
    for track, outcome in scorer.score_many(tracks, on_progress=bar.segments_done):
        bar.track_done(track)
        yield _outcome(track, outcome, scorer)
    bar.remove()


def score_file(file: Path, decoder: Decoder, scorer: Scorer, progress: Progress) -> dict[str, Any]:
    """What `score_files` gives for one file."""
    (outcome,) = score_files([file], decoder, scorer, progress)
    return outcome


def _outcome(track: PrefetchedTrack, outcome: dict[str, float] | TrackError, scorer: Scorer) -> dict[str, Any]:
    if isinstance(outcome, TrackError):
        return {"file": str(track.file), "error": {"code": outcome.code, "detail": str(outcome)}}
    facts = asdict(track.facts) if track.facts else {}
    return {"file": str(track.file), "scores": outcome, "audio": facts, "model": scorer.card.identity()}


class Bar:
    """How many segments are done, out of how many there will be if the other tracks are as long as those so far."""

    def __init__(self, progress: Progress, n_tracks: int) -> None:
        self._progress, self._n_tracks = progress, n_tracks
        self._task = progress.add_task("scoring", total=None, tracks=f"0/{n_tracks}", rate="")
        self._started_at = time.monotonic()
        self._n_segments = self._n_done = 0

    def segments_done(self, n_segments: int) -> None:
        rate = n_segments * SEGMENT_S / (time.monotonic() - self._started_at)
        self._progress.update(self._task, completed=n_segments, rate=f"{rate:.1f} × real time")

    def track_done(self, track: PrefetchedTrack) -> None:
        self._n_done += 1
        self._n_segments += track.n_segments
        expected = round(self._n_segments * self._n_tracks / self._n_done)
        self._progress.update(self._task, total=expected, tracks=f"{self._n_done}/{self._n_tracks}")

    def remove(self) -> None:
        self._progress.remove_task(self._task)


def print_table(outcomes: list[dict[str, Any]], scorer: Scorer) -> None:
    """One row a file, one column a score."""
    table = Table(caption=None if scorer.card.trained else UNTRAINED, caption_style="bold red")
    table.add_column("file", overflow="fold")
    for name in scorer.card.scores:
        table.add_column(name, justify="right")
    for outcome in outcomes:
        if "scores" in outcome:
            table.add_row(outcome["file"], *(f"{value:.2f}" for value in outcome["scores"].values()))
    if table.row_count:
        Console().print(table)


def _print_line(outcome: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(outcome, allow_nan=False) + "\n")
    sys.stdout.flush()


def _print_error(outcome: dict[str, Any]) -> None:
    if error := outcome.get("error"):
        Console(stderr=True).print(f"[red]{outcome['file']}[/red]: {error['code']}: {error['detail']}", highlight=False)


def _progress() -> Progress:
    columns = (
        TextColumn("{task.fields[tracks]} tracks"),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


@contextmanager
def decoder_of(settings: WorkerSettings) -> Iterator[Decoder]:
    """A decoder with the limits of the settings, for as long as the block."""
    with (
        tempfile.TemporaryDirectory(prefix="apex-") as scratch_dir,
        Decoder(
            settings.audio_limits,
            timeout_s=settings.decode_timeout_s,
            memory_bytes=settings.decode_memory_bytes,
            scratch_dir=Path(scratch_dir),
        ) as decoder,
    ):
        yield decoder
