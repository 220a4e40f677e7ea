"""`apex arena`: battles and scores in, an experiment out."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.errors import training_command
from app.cli.flags import DeviceFlag, OutFlag, ResamplesFlag, WeightsFlag
from app.cli.progress import progress
from app.cli.terminal import note, warn
from app.cli.weights_dir import require_weights

SCORES = "scores.jsonl"


@training_command
def arena(
    battles: Annotated[Path, typer.Argument(help="Music Arena's record of battles: .parquet, .jsonl, .csv or .tsv.")],
    out: OutFlag = Path("arena"),
    scores: Annotated[
        Path | None,
        typer.Option(help="Scores of the clips, as 'apex score --json' prints them, if the battles have none."),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(help="Folder of the clips, to score them now. Default: audio/ beside the battles, if need be."),
    ] = None,
    weights: WeightsFlag = Path("weights"),
    head: Annotated[Path | None, typer.Option(help="Another head than that of the weights.")] = None,
    min_votes: Annotated[int, typer.Option(min=1, help="Fewer, and a system is not on the leaderboard.")] = 30,
    resamples: ResamplesFlag = 1_000,
    device: DeviceFlag = "auto",
) -> None:
    """5. Do the scores say which of two clips listeners prefer? Music Arena, with and without the aesthetic scores.

    The battles have columns battle_uuid, prompt, is_instrumental, system_a, system_b, preference (A, B, TIE or
    BOTH_BAD), and either scores (score_streams_a, score_streams_b and so on) or clips to score (audio_a, audio_b).
    """
    from model.arena import experiment, report
    from model.arena.battles import clips_in, has_scores, read_battles
    from model.training.tables import read_table, spelling_warning

    table = read_table(battles)
    if audio is None and scores is None and not has_scores(table):
        audio = _audio_beside(battles)
    if audio is not None:
        out.mkdir(parents=True, exist_ok=True)
        scores = _score_clips(clips_in(table, audio), audio, out / SCORES, weights, head, device)
    read = read_battles(battles, scores)
    if warning := spelling_warning("system_a, system_b", chain(*read.systems)):
        warn(warning)
    with progress() as progress_bars:
        bar = progress_bars.add_task("folds", total=None)
        result = experiment.run(
            read,
            n_resamples=resamples,
            min_votes=min_votes,
            on_progress=lambda done, total: progress_bars.update(bar, completed=done, total=total),
        )
    report.write(result, out)
    note(f"{report.headline(result.fitted)} See {out / 'report.html'}")


def _audio_beside(battles: Path) -> Path | None:
    """The folder audio/ beside a file, None where there is none."""
    folder = battles.parent / "audio"
    return folder if folder.is_dir() else None


def _score_clips(clips: Sequence[str], audio: Path, path: Path, weights: Path, head: Path | None, device: str) -> Path:
    """Score the clips that are not in the file yet, a line each, and return the file."""
    from app.cli.scoring import UNTRAINED, score_files, scoring_progress
    from app.core.settings import WorkerSettings, load_settings
    from model.arena.battles import clip_file
    from model.audio.decoder import temporary_decoder
    from model.inference.scorer import Scorer
    from model.training.tables import DataError

    require_weights(weights)
    settings = load_settings(WorkerSettings)
    scorer = Scorer.load(weights, device=device, head=head)
    if not scorer.card.trained:
        note(UNTRAINED, "bold red")
    scored = keep_scored(path, scorer.card.version)
    todo = [clip for clip in clips if clip not in scored]
    with (
        temporary_decoder(settings) as decoder,
        scoring_progress() as progress_bars,
        path.open("a", encoding="utf-8") as file,
    ):
        outcomes = score_files([clip_file(audio, clip) for clip in todo], decoder, scorer, progress_bars)
        for clip, outcome in zip(todo, outcomes, strict=True):
            if "error" in outcome:
                raise DataError(f"{audio / clip}: {outcome['error']['detail']}")
            line = {"file": clip, "version": scorer.card.version, "scores": outcome["scores"]}
            file.write(json.dumps(line, allow_nan=False) + "\n")
            file.flush()
    return path


def keep_scored(path: Path, version: str) -> set[str]:
    """The clips that an earlier call has scored with the same weights; all other lines of the file are removed."""
    from model.files import write_text

    if not path.exists():
        return set()
    kept = [line for line in _whole_lines(path) if line.get("version") == version]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
    return {line["file"] for line in kept}


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text("utf-8").split("\n"):
        with suppress(ValueError):  # the last line, where writing it was interrupted
            yield json.loads(line)
