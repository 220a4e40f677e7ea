"""`apex sweep`: every condition trained, one table."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.cli.errors import training_command
from app.cli.flags import (
    BatchSizeFlag,
    DeviceFlag,
    EpochsFlag,
    LearningRateFlag,
    OutFlag,
    PatienceFlag,
    SeedFlag,
    SplitsArgument,
)
from app.cli.progress import progress
from app.cli.terminal import literal, note
from model.domain import TASK_SCORES


@training_command
def sweep(
    data: SplitsArgument,
    out: OutFlag = Path("sweep"),
    task: Annotated[list[str] | None, typer.Option(help="Only this task; may be given twice. Default both.")] = None,
    epochs: EpochsFlag = 50,
    batch_size: BatchSizeFlag = 512,
    learning_rate: LearningRateFlag = 1e-4,
    patience: PatienceFlag = 20,
    seed: SeedFlag = 42,
    device: DeviceFlag = "auto",
) -> None:
    """Train all 24 conditions of the paper, one a core, and compare them in one table."""
    from model.inference.device import resolve_device
    from model.reports.html import shown
    from model.training import sweep as sweeping
    from model.training.tables import DataError
    from model.training.trainer import TrainConfig

    tasks = task or ["popularity", "full"]
    if unknown := set(tasks) - TASK_SCORES.keys():
        raise DataError(f"task is {unknown.pop()!r}, not one of {', '.join(TASK_SCORES)}")
    base = TrainConfig(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, patience=patience, seed=seed)
    with progress() as progress_bars:
        bar = progress_bars.add_task("conditions", total=None)

        def show(name: str, done: int, total: int) -> None:
            progress_bars.update(bar, completed=done, total=total, description=f"conditions, last {name}")

        results = sweeping.sweep(data, out, base, device=resolve_device(device), tasks=tasks, on_progress=show)
    header, rows = sweeping.table(results)
    table = Table(*header)
    for row in rows:
        table.add_row(*(literal(shown(cell)) for cell in row))
    Console().print(table)
    note(f"see {out / 'report.html'}")
