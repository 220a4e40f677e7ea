"""`apex labels`: raw counts in, labels and splits out."""

from pathlib import Path
from typing import Any

from rich.console import Console

from model.training import labels


def run(counts: Path, out: Path, aesthetics: Path | None, **choices: Any) -> None:
    """Write the three splits and the report."""
    config = labels.LabelConfig(**choices)
    console = Console(stderr=True)
    with console.status(f"reading {counts}"):
        made = labels.label(counts, config, aesthetics)
    with console.status("writing"):
        labels.write(made, out, config)
    if config.exponent == 1:
        console.print("Exponent 1: a score is a percentile rank. The published model's exponent is not known.")
    console.print(f"{len(made.ids):,} songs; see {out / 'report.html'}", highlight=False)
