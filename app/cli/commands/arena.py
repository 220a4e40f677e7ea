"""`apex arena`: battles and scores in, an experiment out."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from app.cli.commands.progress import progress
from app.cli.commands.score import UNTRAINED, decoder_of, score_file
from app.cli.commands.settings import load_settings
from app.cli.commands.up import require_weights
from app.core.settings import WorkerSettings
from model.arena import experiment as arena
from model.arena import report as arena_report
from model.arena.battles import clips_in, has_scores, read_battles
from model.files import write_text
from model.inference.scorer import Scorer
from model.training.run import chosen_device
from model.training.tables import DataError, read_table

SCORES = "scores.jsonl"


def run(
    battles: Path,
    out: Path,
    *,
    scores: Path | None,
    audio: Path | None,
    weights: Path,
    head: Path | None,
    min_votes: int,
    resamples: int,
    device: str,
) -> None:
    """Score the clips if that is asked for or nothing else is there, then run the experiment and write it down."""
    table = read_table(battles)
    if audio is None and scores is None and not has_scores(table):
        audio = _beside(battles)
    if audio is not None:
        out.mkdir(parents=True, exist_ok=True)
        scores = _scored(clips_in(table, audio), audio, out / SCORES, weights, head, device)
    read = read_battles(battles, scores)
    with progress() as bars:
        bar = bars.add_task("folds", total=None)
        experiment = arena.run(
            read,
            n_resamples=resamples,
            min_votes=min_votes,
            on_progress=lambda done, total: bars.update(bar, completed=done, total=total),
        )
    arena_report.write(experiment, out)
    Console(stderr=True).print(f"{arena_report.headline(experiment.fitted)} See {out / 'report.html'}", highlight=False)


def _beside(battles: Path) -> Path | None:
    """The folder audio/ beside a file."""
    folder = battles.parent / "audio"
    return folder if folder.is_dir() else None


def _scored(clips: Sequence[str], audio: Path, path: Path, weights: Path, head: Path | None, device: str) -> Path:
    """Scores the clips that are not in the file yet, a line each, and returns the file."""
    require_weights(weights)
    settings = load_settings(WorkerSettings)
    scorer = Scorer.load(weights, device=chosen_device(device), head=head)
    if not scorer.card.trained:
        Console(stderr=True).print(UNTRAINED, style="bold red")
    known = keep(path, scorer.card.version)
    with decoder_of(settings) as decoder, progress() as bars, path.open("a", encoding="utf-8") as file:
        for clip in bars.track([clip for clip in clips if clip not in known], description="clips"):
            outcome = score_file(audio / clip, decoder, scorer, bars)
            if "error" in outcome:
                raise DataError(f"{audio / clip}: {outcome['error']['detail']}")
            line = {"file": clip, "version": scorer.card.version, "scores": outcome["scores"]}
            file.write(json.dumps(line, allow_nan=False) + "\n")
            file.flush()
    return path


def keep(path: Path, version: str) -> set[str]:
    """The clips that an earlier call has scored with the same weights; the file is left with these alone."""
    if not path.exists():
        return set()
    kept = [line for line in _whole_lines(path) if line.get("version") == version]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
    return {line["file"] for line in kept}


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text("utf-8").split("\n"):
        with suppress(ValueError):  # a last one that was cut off
            yield json.loads(line)
