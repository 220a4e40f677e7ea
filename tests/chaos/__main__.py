"""`python -m tests.chaos [--jobs N] [--faults N] [--seed N ...] [--real]`: chaos runs, a table and a JSON report."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.campaigns import end, side_by_side
from tests.chaos.campaign import OnProgress, Plan, Report, run

SEEDS = [1, 2, 3]
console = Console()


def main(
    jobs: Annotated[int, typer.Option(help="Tracks of one run.")] = 1000,
    faults: Annotated[int, typer.Option(help="Faults of one run.")] = 300,
    seed: Annotated[list[int], typer.Option(help="One run for each.")] = SEEDS,
    redis_every: Annotated[float, typer.Option(help="Seconds between faults of Redis.")] = 12.0,
    real: Annotated[bool, typer.Option("--real", help="The real decoder, and tiny weights.")] = False,
    output: Annotated[Path | None, typer.Option(help="Where to write the report as JSON.")] = None,
) -> None:
    """Kill workers, API and Redis at random under load; then look for what was lost, changed or left over."""
    # Slower with real workers: one that loads a network must live long enough to score something.
    every_s = (3.0, 6.0) if real else (0.3, 1.2)
    plans = [
        Plan(seed=one, n_jobs=jobs, n_faults=faults, every_s=every_s, redis_every_s=redis_every, real=real)
        for one in seed
    ]
    reports = [observed(plan) for plan in plans]
    console.print(side_by_side("Chaos: what was promised, and what was left over", reports, row))
    end(reports, output)


def observed(plan: Plan) -> Report:
    """One run with a line of progress; its folder is kept when the run fails."""
    directory = Path(tempfile.mkdtemp(prefix=f"apex-chaos-{plan.seed}-"))
    console.print(f"seed {plan.seed}, logs in {directory}")
    with progressing(plan.n_jobs, plan.n_faults, console) as show:
        report = run(plan, directory, show)
    for name, members in report.result.sets.items():
        if members:
            console.print(f"[red]{name}[/red]: {sorted(members)[:10]}")
    return report


@contextmanager
def progressing(n_jobs: int, n_faults: int, console: Console) -> Iterator[OnProgress]:
    """Three bars: the tracks that were accepted, the jobs that are over, and the faults."""
    columns = (TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        totals = {"accepted": n_jobs, "over": n_jobs, "faults": n_faults}
        bars = [progress.add_task(name, total=total) for name, total in totals.items()]

        def show(*counts: int) -> None:
            for bar, count in zip(bars, counts, strict=True):
                progress.update(bar, completed=count)

        yield show


def row(report: Report) -> dict[str, object]:
    redis_kills = report.faults.get("SIGKILL redis", 0)
    return {
        "jobs accepted": report.n_accepted,
        "faults": report.n_faults,
        "of these, Redis killed": redis_kills,
        **{name.replace("_", " "): len(members) for name, members in report.result.sets.items()},
        "residue": report.result.n_residue,
        "runs begun again": report.n_runs_again,
        "answers that were no yes": report.n_refusals,
        "slowest job, s": report.slowest_s,
        "settled after, s": report.settled_s,
        "took, s": report.took_s,
        "": "holds" if report.holds else "FAILS",
    }


if __name__ == "__main__":
    typer.run(main)
