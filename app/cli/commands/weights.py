"""`apex weights`: get, make, convert and check weights."""

from pathlib import Path
from typing import Any, Literal, cast

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from model.domain import WeightsError
from model.weights import directory as weights

MERT_LICENCE = (
    "MERT-v1-95M is licensed CC-BY-NC-4.0: with these weights the service may not be used commercially. "
    "The APEX head is licensed Apache-2.0."
)


def pull(directory: Path, *, endpoint: str | None) -> None:
    """Fetch the published weights with a progress bar."""
    console = Console(stderr=True)
    console.print(MERT_LICENCE)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        manifest = weights.pull(directory, endpoint=endpoint, on_progress=_Bars(progress))
    _show(directory, manifest)


def ensure_weights(directory: Path) -> Path:
    """The given weights if they are there, else the published ones, else untrained ones beside them."""
    if (directory / "mert").is_dir():
        return directory
    if weights.reachable():
        pull(directory, endpoint=None)
        return directory
    beside = directory.with_name(f"{directory.name}-stand-in")
    console = Console(stderr=True)
    console.print(
        "The model hub cannot be reached. [bold red]Using UNTRAINED weights: the scores mean nothing.[/bold red]"
    )
    if not (beside / "mert").is_dir():
        with console.status("making untrained weights of the published size"):
            weights.write_stand_in(beside)
    return beside


def stand_in(directory: Path, *, size: str, task: str, seed: int) -> None:
    """Make untrained weights."""
    if task not in ("full", "popularity"):
        raise WeightsError(f"there is no task {task!r}: choose full or popularity")
    with Console(stderr=True).status("making untrained weights"):
        manifest = weights.write_stand_in(
            directory,
            size=cast(Literal["full", "tiny"], size),
            task=cast(Literal["full", "popularity"], task),
            seed=seed,
        )
    _show(directory, manifest)


def verify(directory: Path) -> None:
    """Check hashes and tensors."""
    with Console(stderr=True).status("reading every tensor"):
        manifest = weights.verify(directory, deep=True)
    _show(directory, manifest)


def convert(source: Path, directory: Path, *, head: Path | None = None) -> None:
    """Write the same weights as safetensors, with another head if one is given."""
    _show(directory, weights.convert(source, directory, head_path=head))


def _show(directory: Path, manifest: weights.Manifest) -> None:
    trained = "trained" if manifest.trained else "[bold red]NOT trained: scores mean nothing[/bold red]"
    table = Table(title=f"{directory} ({trained})")
    for heading in ("file", "bytes", "sha256", "licence", "source"):
        table.add_column(heading, overflow="fold")
    for name, entry in manifest.files.items():
        source = f"{entry.source or '-'}@{entry.revision}" if entry.revision else entry.source or "-"
        table.add_row(name, f"{entry.bytes:,}", entry.sha256[:16], entry.licence or "-", source)
    Console().print(table)


class _Bars:
    """One progress bar a file: `(file, bytes done, bytes in all)`."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, Any] = {}

    def __call__(self, file: str, done: int, total: int | None) -> None:
        if file not in self.tasks:
            self.tasks[file] = self.progress.add_task(file, total=total)
        self.progress.update(self.tasks[file], completed=done, total=total)
