"""`apex extract`: songs in, Parquet of embeddings out."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.errors import training_command
from app.cli.flags import DeviceFlag, OutFlag, WeightsFlag
from app.cli.terminal import note
from app.cli.weights_dir import require_weights


@training_command
def extract(
    manifest: Annotated[Path, typer.Argument(help="What 'apex labels' wrote, or one table of id and scores.")],
    audio: Annotated[
        str, typer.Option(help="Folder or URL that holds each song as a file named id.*; links are followed.")
    ],
    weights: WeightsFlag = Path("weights"),
    out: OutFlag = Path("emb"),
    device: DeviceFlag = "auto",
    actors: Annotated[int, typer.Option(min=1, help="Networks in memory; more than there are GPUs share them.")] = 1,
    batch_segments: Annotated[
        int, typer.Option(min=0, help="Segments of 30 s in one pass; 0 for what suits the device.")
    ] = 0,
    shard_songs: Annotated[int, typer.Option(min=1, help="Songs in one Parquet file, failed ones among them.")] = 256,
    retry_failures: Annotated[bool, typer.Option("--retry-failures", help="Try those again that have failed.")] = False,
) -> None:
    """2. Embed every song, in parallel. Start it again after a crash: it goes on where it was.

    What cannot be embedded is in OUT/failures.parquet, with the reason; where that is every song, the exit status is 1.
    Set RAY_ADDRESS to use a Ray cluster instead of this machine.
    """
    from app.cli.catalogue.progress import showing_progress
    from model.catalogue import extract as extraction

    require_weights(weights)
    config = extraction.ExtractConfig(
        weights.resolve(), device=device, actors=actors, batch_segments=batch_segments, shard_songs=shard_songs
    )
    with showing_progress("songs") as on_progress:
        end = extraction.extract(manifest, audio, out, config, retry_failures=retry_failures, on_progress=on_progress)
    note(f"{end.n_tracks - end.n_failed:,} of {end.n_tracks:,} songs are in {out}")
    if end.failures:
        codes = ", ".join(f"{n:,} {code}" for code, n in end.failures.items())
        note(f"{end.n_failed:,} failed ({codes}): {out / extraction.FAILURES} says why", "red")
    sys.exit(int(end.n_failed == end.n_tracks))
