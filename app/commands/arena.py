"""`apex arena`: battles and scores in, an experiment out."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from app.commands.bars import progress
from app.commands.score import UNTRAINED, decoder_of, score_file
from app.commands.settings import load_settings
from app.commands.up import require_weights
from app.settings import WorkerSettings
from model import arena, arena_report
from model.battles import audio_of, read_battles
from model.scorer import Scorer
from model.tables import DataError, read_table

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
    """Score the clips if that is asked for, then run the experiment and write it down."""
    out.mkdir(parents=True, exist_ok=True)
    if audio is not None:
        scores = _scored(battles, audio, out / SCORES, weights, head, device)
    read = read_battles(battles, scores)
    with progress() as bars:
        bar = bars.add_task("models", total=None)
        experiment = arena.run(
            read,
            n_resamples=resamples,
            min_votes=min_votes,
            on_progress=lambda done, total: bars.update(bar, completed=done, total=total),
        )
    arena_report.write(experiment, out)
    Console(stderr=True).print(f"{arena_report.claim(experiment.fitted)} See {out / 'report.html'}", highlight=False)


def _scored(battles: Path, audio: Path, path: Path, weights: Path, head: Path | None, device: str) -> Path:
    """Scores the clips that are not in the file yet, a line each, and returns the file."""
    require_weights(weights)
    settings = load_settings(WorkerSettings)
    clips = audio_of(read_table(battles))
    known = {line["file"] for line in _lines(path)}
    scorer = Scorer.load(weights, device=device, head=head)
    if not scorer.card.trained:
        Console(stderr=True).print(UNTRAINED, style="bold red")
    with decoder_of(settings) as decoder, progress() as bars, path.open("a", encoding="utf-8") as file:
        for clip in bars.track([clip for clip in clips if clip not in known], description="clips"):
            outcome = score_file(audio / clip, decoder, scorer, bars)
            if "error" in outcome:
                raise DataError(f"{audio / clip}: {outcome['error']['detail']}")
            file.write(json.dumps({"file": clip, "scores": outcome["scores"]}, allow_nan=False) + "\n")
            file.flush()
    return path


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of an earlier call; a last one that was cut off is taken out of the file."""
    if not path.exists():
        return []
    whole = [line for line in path.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]
    path.write_text("".join(whole), "utf-8")
    return [json.loads(line) for line in whole]
