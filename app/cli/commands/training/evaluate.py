"""`apex evaluate`: how good a head is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from app.cli.errors import training_command
from app.cli.flags import DeviceFlag, OutFlag, ResamplesFlag
from app.cli.progress import progress
from app.cli.terminal import literal, note, warn

if TYPE_CHECKING:
    from model.training.evaluate import Evaluation


@training_command
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or a head: apex.safetensors or best_model.pt.")],
    data: Annotated[Path, typer.Argument(help="Embeddings that it was not trained on, such as emb/test.")],
    out: OutFlag = Path("eval"),
    train_data: Annotated[
        Path | None, typer.Option("--train", help="Embeddings for the baselines. Default the train/ beside DATA.")
    ] = None,
    resamples: ResamplesFlag = 1_000,
    device: DeviceFlag = "auto",
) -> None:
    """4. Say how good a head is, beside a mean and a ridge regression, with 95 % intervals."""
    from model.inference.device import resolve_device
    from model.training import evaluate as evaluation
    from model.training.tables import spelling_warning

    train = train_data or _sibling_split(data, "train")
    with progress() as progress_bars:
        bar = progress_bars.add_task("measures", total=None)
        result = evaluation.evaluate(
            run,
            data,
            train=train,
            val=_sibling_split(data, "val") or train,
            device=resolve_device(device),
            n_resamples=resamples,
            on_progress=lambda done, total: progress_bars.update(bar, completed=done, total=total),
        )
    evaluation.write(result, out)
    _show(result)
    if warning := spelling_warning("platform", result.songs.platforms):
        warn(warning)
    note(f"see {out / 'report.html'}")


def _sibling_split(data: Path, split: str) -> Path | None:
    """Another split of the folder that a split is in."""
    paths = (data.parent / split, data.parent / f"{split}.parquet")
    return next((path for path in paths if path.exists() and path.resolve() != data.resolve()), None)


def _show(evaluation: "Evaluation") -> None:
    from model.reports.html import shown
    from model.training.evaluate import baseline_summary, summary

    header, rows = summary(evaluation)
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for name in header:
        table.add_column(name, justify="left" if name == header[0] else "right", no_wrap=name == header[-1])
    for row in rows:
        table.add_row(*(literal(shown(cell)) for cell in row))
    console = Console()
    console.print(table)
    console.print(literal(baseline_summary(evaluation)))
