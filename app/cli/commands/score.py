"""`apex score`: files in, scores out, in this process. The same decoder and model as the service's."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.flags import ServiceDeviceFlag, WeightsDirFlag, export


def score(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Tracks to score.")],
    weights: WeightsDirFlag = None,
    device: ServiceDeviceFlag = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of a table.")] = False,
    head: Annotated[
        Path | None, typer.Option(help="Another head than that of the weights, such as run/apex.safetensors.")
    ] = None,
) -> None:
    """Score files in this process, without a server. A bad file is reported, the others still score; then exit 1."""
    export(weights_dir=weights, device=device)
    from app.cli.scoring import (
        print_error,
        print_failures,
        print_json,
        print_table,
        score_files,
        scoring_progress,
    )
    from app.cli.weights_dir import require_weights
    from app.core.settings import WorkerSettings, load_settings
    from model.audio.decoder import temporary_decoder
    from model.inference.scorer import Scorer

    settings = load_settings(WorkerSettings)
    require_weights(settings.weights_dir)
    scorer = Scorer.load(settings.weights_dir, head=head, **settings.engine_options)
    outcomes = []
    with temporary_decoder(settings) as decoder, scoring_progress() as progress:
        for outcome in score_files(files, decoder, scorer, progress):
            outcomes.append(outcome)
            print_json(outcome) if json else print_error(outcome)
    if not json:
        print_table(outcomes, scorer)
    sys.exit(int(print_failures(outcomes) > 0))
