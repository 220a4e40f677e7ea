"""`apex sweep`: every condition trained, one table."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from app.cli.commands.progress import progress
from model.domain import TASK_SCORES
from model.reports.html import shown
from model.training.run import chosen_device
from model.training.sweep import sweep, table
from model.training.tables import DataError
from model.training.trainer import TrainConfig


def run(data: Path, out: Path, tasks: list[str], *, device: str, **choices: Any) -> None:
    """Train what is not trained yet, and compare."""
    if unknown := set(tasks) - TASK_SCORES.keys():
        raise DataError(f"task is {unknown.pop()!r}, not one of {', '.join(TASK_SCORES)}")
    with progress() as bars:
        bar = bars.add_task("conditions", total=None)

        def show(name: str, done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total, description=f"conditions, last {name}")

        results = sweep(data, out, TrainConfig(**choices), device=chosen_device(device), tasks=tasks, on_progress=show)
    header, rows = table(results)
    grid = Table(*header)
    for row in rows:
        grid.add_row(*map(shown, row))
    Console().print(grid)
    Console(stderr=True).print(f"see {out / 'report.html'}", highlight=False)
