"""`apex train`: embeddings in, a head out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskID
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
from app.cli.terminal import note

if TYPE_CHECKING:
    from model.training.trainer import Record


@training_command
def train(
    data: SplitsArgument,
    out: OutFlag = Path("run"),
    mode: Annotated[
        str, typer.Option(help="A row is a song, the mean of its segments, or a segment of 30 s.")
    ] = "song",
    task: Annotated[str, typer.Option(help="full (seven scores) or popularity (two).")] = "full",
    loss: Annotated[
        str, typer.Option(help="uncertainty (learns the weights), equal, or weighted (popularity 5, others 1).")
    ] = "uncertainty",
    shared: Annotated[int, typer.Option(help="Shared layers: 2 or 3.")] = 2,
    epochs: EpochsFlag = 50,
    batch_size: BatchSizeFlag = 512,
    learning_rate: LearningRateFlag = 1e-4,
    weight_decay: Annotated[float, typer.Option(help="Weight decay of AdamW.")] = 1e-4,
    patience: PatienceFlag = 20,
    seed: SeedFlag = 42,
    device: DeviceFlag = "auto",
) -> None:
    """3. Train a head on embeddings. Start it again after a crash: it goes on where it was."""
    from model.inference.device import resolve_device
    from model.networks.head_formats import HEAD_FILE
    from model.training import run
    from model.training.trainer import TrainConfig

    config = TrainConfig(
        mode=mode,
        task=task,
        loss=loss,
        shared=shared,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        patience=patience,
        seed=seed,
    )
    with progress() as progress_bars:
        show = _EpochBars(progress_bars, config.epochs)
        result = run.train(data, out, config, device=resolve_device(device), on_progress=show)
    Console(stderr=True).print(_table(result))
    note(f"best epoch {result['best_epoch']} of {result['epochs']}; the head is {out / HEAD_FILE}")


class _EpochBars:
    """One bar for the epochs, one for the batches of the epoch."""

    def __init__(self, progress_bars: Progress, n_epochs: int) -> None:
        self._bars = progress_bars
        self._epochs: TaskID = progress_bars.add_task("epochs", total=n_epochs)
        self._batches: TaskID = progress_bars.add_task("batches", total=None)

    def __call__(self, epoch: int, done: int, total: int, record: "Record | None") -> None:
        self._bars.update(self._batches, completed=done, total=total)
        if record is not None:
            text = f"epochs, loss {record['train_loss']:.3f}, validation {record['val_loss']:.3f}"
            self._bars.update(self._epochs, completed=epoch, description=text)


def _table(result: "Record") -> Table:
    table = Table()
    for heading in ("score", "validation MSE", "σ", "weight"):
        table.add_column(heading, justify="left" if heading == "score" else "right")
    for name, error in result["val_mse"].items():
        sigma = f"{result['sigma'][name]:.3f}" if result["sigma"] else "–"
        table.add_row(name, f"{error:.3f}", sigma, f"{result['weight'][name]:.3f}")
    return table
