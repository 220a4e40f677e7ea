"""`apex labels`: raw counts in, labels and splits out."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.cli.errors import training_command
from app.cli.flags import OutFlag, SeedFlag
from app.cli.terminal import literal, note, warn


@training_command
def labels(
    counts: Annotated[
        Path, typer.Argument(help="Table with id, platform, streams, likes: .csv, .tsv, .jsonl or .parquet.")
    ],
    out: OutFlag = Path("labels"),
    aesthetics: Annotated[
        Path | None,
        typer.Option(help="Table with id and songeval_scores, or the five scores, if the counts have none of them."),
    ] = None,
    exponent: Annotated[
        float, typer.Option(help="score = 100 · percentile^exponent. The paper's is not public; 1 changes nothing.")
    ] = 1.0,
    pool: Annotated[bool, typer.Option("--pool", help="Rank all platforms together, not each by itself.")] = False,
    group: Annotated[
        str | None, typer.Option(help="Column, such as artist, whose songs all go into the same split.")
    ] = None,
    fractions: Annotated[tuple[float, float, float], typer.Option(help="Shares of train, val and test.")] = (
        0.8,
        0.1,
        0.1,
    ),
    seed: SeedFlag = 42,
) -> None:
    """1. From raw counts to scores of 0 to 100, split into train, val and test."""
    from model.training.labels import LabelConfig, label, write

    config = LabelConfig(exponent=exponent, pool=pool, group=group, fractions=fractions, seed=seed)
    console = Console(stderr=True)
    with console.status(literal(f"reading {counts}")):
        labelled = label(counts, config, aesthetics)
    with console.status("writing"):
        write(labelled, out, config)
    for warning in labelled.warnings:
        warn(warning)
    if config.exponent == 1:
        note("Exponent 1: a score is a percentile rank. The published model's exponent is not known.")
    note(f"{len(labelled.ids):,} songs; see {out / 'report.html'}")
