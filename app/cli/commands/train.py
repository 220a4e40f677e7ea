"""`apex train`: embeddings in, a head out."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from app.cli.commands.progress import progress
from model.networks.head import HEAD_FILE
from model.training.run import chosen_device, train
from model.training.trainer import Record, TrainConfig


def run(data: Path, out: Path, *, device: str, **choices: Any) -> None:
    """Train, or go on training, and show what came of it."""
    config = TrainConfig(**choices)
    with progress() as bars:
        show = _Bars(bars, config.epochs)
        result = train(data, out, config, device=chosen_device(device), on_progress=show)
    console = Console(stderr=True, highlight=False)
    console.print(_table(result))
    console.print(f"best epoch {result['best_epoch']} of {result['epochs']}; the head is {out / HEAD_FILE}")


class _Bars:
    """One bar for the epochs, one for the batches of the epoch."""

    def __init__(self, bars: Progress, n_epochs: int) -> None:
        self._bars = bars
        self._epochs: TaskID = bars.add_task("epochs", total=n_epochs)
        self._batches: TaskID = bars.add_task("batches", total=None)

    def __call__(self, epoch: int, done: int, total: int, record: Record | None) -> None:
        self._bars.update(self._batches, completed=done, total=total)
        if record is not None:
            text = f"epochs, loss {record['train_loss']:.3f}, validation {record['val_loss']:.3f}"
            self._bars.update(self._epochs, completed=epoch, description=text)


def _table(result: Record) -> Table:
    table = Table()
    for heading in ("score", "validation MSE", "σ", "weight"):
        table.add_column(heading, justify="left" if heading == "score" else "right")
    for name, error in result["val_mse"].items():
        sigma = f"{result['sigma'][name]:.3f}" if result["sigma"] else "–"
        table.add_row(name, f"{error:.3f}", sigma, f"{result['weight'][name]:.3f}")
    return table
