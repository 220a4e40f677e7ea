"""The weights directory that a command runs with: required, or obtained."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from app.core.misconfiguration import Misconfigured

if TYPE_CHECKING:
    from model.weights.directory import Manifest

MERT_LICENCE = (
    "MERT-v1-95M is licensed CC-BY-NC-4.0: with these weights the service may not be used commercially. "
    "The APEX head is licensed Apache-2.0."
)


class CannotStart(Misconfigured):
    """Something that the service needs is missing; the text says what to run."""


def require_weights(directory: Path) -> None:
    """Raise CannotStart where there are no weights: untrained ones are made only for a user who asks for them."""
    if not (directory / "mert").is_dir():
        raise CannotStart(
            f"no weights in {directory}: run 'apex weights pull {directory}' for the published ones, "
            f"or 'apex weights stand-in {directory}' to try the service with untrained ones"
        )


def ensure_weights(directory: Path) -> Path:
    """The given weights if they are there, else the published ones, else untrained ones beside them."""
    if (directory / "mert").is_dir():
        return directory
    from model.weights import directory as weights  # imports torch, which the caller else does without
    from model.weights import hub

    if hub.is_reachable():
        pull_weights(directory)
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


def pull_weights(directory: Path, *, endpoint: str | None = None, head_revision: str | None = None) -> "Manifest":
    """Fetch the published weights with a progress bar a file; return their manifest."""
    from model.weights import directory as weights

    sources = weights.published(head_revision)
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
        return weights.pull(directory, endpoint=endpoint, on_progress=_FileBars(progress), sources=sources)


class _FileBars:
    """One progress bar a file, called with `(file, bytes done, bytes in all)`."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, TaskID] = {}

    def __call__(self, file: str, done: int, total: int | None) -> None:
        if file not in self.tasks:
            self.tasks[file] = self.progress.add_task(file, total=total)
        self.progress.update(self.tasks[file], completed=done, total=total)
