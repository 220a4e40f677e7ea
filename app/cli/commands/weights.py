"""`apex weights`: get, make, convert and check weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.cli.terminal import literal
from app.cli.weights_dir import pull_weights
from model.domain import TASK_SCORES, WeightsError

if TYPE_CHECKING:
    from model.weights.directory import Manifest

app = typer.Typer(no_args_is_help=True, help="Get, make, convert and check weights.")


@app.command()
def pull(
    directory: Annotated[Path, typer.Argument(help="Where to put them.")] = Path("weights"),
    endpoint: Annotated[str | None, typer.Option(help="Another hub to fetch from.")] = None,
    head_revision: Annotated[
        str | None, typer.Option(help="Another commit, branch or tag of the head's repository than the pinned one.")
    ] = None,
) -> None:
    """Fetch the published weights, check them, convert them to safetensors. Resumes where it stopped."""
    _show(directory, pull_weights(directory, endpoint=endpoint, head_revision=head_revision))


@app.command()
def stand_in(
    directory: Annotated[Path, typer.Argument(help="Where to put them.")] = Path("weights"),
    tiny: Annotated[bool, typer.Option("--tiny", help="A network of toy size, for tests.")] = False,
    task: Annotated[str, typer.Option(help="full (seven scores) or popularity (two).")] = "full",
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 0,
) -> None:
    """Make untrained weights of the same shapes: everything can be tried, but the scores mean nothing."""
    if task not in TASK_SCORES:
        raise WeightsError(f"there is no task {task!r}: choose full or popularity")
    from model.weights.directory import write_stand_in

    with Console(stderr=True).status("making untrained weights"):
        manifest = write_stand_in(
            directory, size="tiny" if tiny else "full", task=cast(Literal["full", "popularity"], task), seed=seed
        )
    _show(directory, manifest)


@app.command()
def verify(directory: Annotated[Path, typer.Argument(help="Weights directory.")] = Path("weights")) -> None:
    """Check every file, hash and tensor of a weights directory."""
    from model.weights.directory import verify

    with Console(stderr=True).status("reading every tensor"):
        manifest = verify(directory, deep=True)
    _show(directory, manifest)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Directory in a published layout.")],
    directory: Annotated[Path, typer.Argument(help="Where to put the result.")],
    head: Annotated[
        Path | None, typer.Option(help="A head to take instead of the source's, such as run/apex.safetensors.")
    ] = None,
) -> None:
    """Turn weights in any published layout into safetensors with a manifest; the numbers stay the same."""
    from model.weights.directory import convert

    _show(directory, convert(source, directory, head_path=head))


def _show(directory: Path, manifest: "Manifest") -> None:
    trained = ("trained", "") if manifest.trained else ("NOT trained: scores mean nothing", "bold red")
    console, table = Console(), Table()
    # Above the table instead of as its title, which would be folded to the width of the table.
    console.print(Text.assemble(literal(directory), " (", trained, ")"), soft_wrap=True)
    for heading in ("file", "bytes", "sha256", "licence", "source"):
        table.add_column(heading, overflow="fold")
    for name, entry in manifest.files.items():
        source = f"{entry.source or '-'}@{entry.revision}" if entry.revision else entry.source or "-"
        cells = (name, f"{entry.bytes:,}", entry.sha256[:16], entry.licence or "-", source)
        table.add_row(*map(literal, cells))
    console.print(table)
