"""`apex catalogue`: score every track of a catalogue."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.errors import training_command
from app.cli.flags import ServiceDeviceFlag, WeightsDirFlag, export

app = typer.Typer(no_args_is_help=True, help="Score whole catalogues, on one machine or a Ray cluster.")


@app.callback()
def options() -> None:
    """Keep `score` a command of its own: a Typer application with one command would take its place."""


@app.command("score")
@training_command
def catalogue_score(
    manifest: Annotated[
        str, typer.Argument(help="Table with the columns id and uri (.parquet, .csv, .tsv, .jsonl), or a folder.")
    ],
    out: Annotated[str, typer.Option("--out", help="Folder or URL for the results.")],
    weights: WeightsDirFlag = None,
    device: ServiceDeviceFlag = None,
    head: Annotated[
        Path | None, typer.Option(help="Another head than that of the weights, such as run/apex.safetensors.")
    ] = None,
    actors: Annotated[
        int, typer.Option(min=0, help="Networks in memory; 0 for one a GPU, or one a machine where there is none.")
    ] = 0,
    gpu_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of a GPU that an actor takes; 0 for what --actors leaves.")
    ] = 0.0,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Write the embedding of each track beside its scores.")
    ] = False,
    bucket_tracks: Annotated[
        int, typer.Option(min=1, help="Tracks in one file of results; what is lost at most where an actor is killed.")
    ] = 100,
    allow_failures: Annotated[int, typer.Option(min=0, help="Failed tracks that are no reason for exit status 1.")] = 0,
    retry_failures: Annotated[bool, typer.Option("--retry-failures", help="Try those again that have failed.")] = False,
) -> None:
    """Score every track of a catalogue. Start it again after a crash: it goes on where it was.

    Results are Parquet files OUT/part-*.parquet, a row a track; one that failed has a code. The exit status is 1 where
    more have failed than allowed. Set RAY_ADDRESS to use a Ray cluster instead of this machine.
    """
    export(weights_dir=weights, device=device)
    from app.cli.catalogue.progress import print_summary, showing_progress
    from app.cli.catalogue.scoring import Choices, score
    from app.cli.weights_dir import require_weights
    from app.core.settings import WorkerSettings, load_settings
    from model.catalogue.engine import Slots

    settings = load_settings(WorkerSettings)
    require_weights(settings.weights_dir)
    choices = Choices(head, embeddings, bucket_tracks, retry_failures, Slots(settings.device, actors, gpu_share))
    with showing_progress() as on_progress:
        summary = score(manifest, out, settings, choices, on_progress)
    print_summary(summary, out)
    sys.exit(int(summary.n_failed > allow_failures))
