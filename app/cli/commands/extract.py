"""`apex extract`: songs in, Parquet of embeddings out."""

from pathlib import Path
from typing import Any

from rich.console import Console

from app.cli.commands.progress import progress
from app.cli.commands.up import require_weights
from model.training.extract import ExtractConfig, Progress, extract
from model.training.shards import FAILURES


def run(manifest: Path, audio: str, out: Path, *, weights: Path, retry_failures: bool, **choices: Any) -> None:
    """Embed what is not embedded yet, and say how much could not be."""
    require_weights(weights)
    config = ExtractConfig(weights.resolve(), **choices)
    with progress() as bars:
        bar = bars.add_task("songs", total=None)

        def show(now: Progress) -> None:
            bars.update(bar, completed=now.done, total=now.total, description=f"songs, {now.failed} failed")

        end = extract(manifest, audio, out, config, retry_failures=retry_failures, on_progress=show)
    console = Console(stderr=True, highlight=False)
    console.print(f"{end.done - end.failed:,} of {end.total:,} songs are in {out}")
    if end.failed:
        console.print(f"[red]{end.failed:,} failed[/red]: {out / FAILURES} says why")
