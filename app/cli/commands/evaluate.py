"""`apex evaluate`: how good a head is."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from app.cli.commands.progress import progress
from model.reports.html import shown
from model.training.evaluate import Evaluation, baseline_summary, evaluate, summary, write
from model.training.run import chosen_device


def run(head: Path, data: Path, out: Path, *, train: Path | None, resamples: int, device: str) -> None:
    """Evaluate, write, and show the comparison with the baselines."""
    train = train or _beside(data, "train")
    with progress() as bars:
        bar = bars.add_task("measures", total=None)
        evaluation = evaluate(
            head,
            data,
            train=train,
            val=_beside(data, "val") or train,
            device=chosen_device(device),
            n_resamples=resamples,
            on_progress=lambda done, total: bars.update(bar, completed=done, total=total),
        )
    write(evaluation, out)
    _show(evaluation)
    Console(stderr=True).print(f"see {out / 'report.html'}", highlight=False)


def _beside(data: Path, split: str) -> Path | None:
    """Another split of the folder that a split is in."""
    paths = (data.parent / split, data.parent / f"{split}.parquet")
    return next((path for path in paths if path.exists() and path.resolve() != data.resolve()), None)


def _show(evaluation: Evaluation) -> None:
    header, rows = summary(evaluation)
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for name in header:
        table.add_column(name, justify="left" if name == header[0] else "right", no_wrap=name == header[-1])
    for row in rows:
        table.add_row(*map(shown, row))
    console = Console()
    console.print(table)
    console.print(baseline_summary(evaluation), highlight=False)
