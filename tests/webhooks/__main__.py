"""`python -m tests.webhooks [--jobs N] [--faults N] [--seed N ...]`: webhooks under chaos, as a table."""

import logging
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.campaigns import end, side_by_side
from tests.webhooks.campaign import Plan, Report, run

SEEDS = [1, 2, 3]
console = Console()


def main(
    jobs: Annotated[int, typer.Option(help="Jobs of one run, in batches of ten.")] = 1000,
    faults: Annotated[int, typer.Option(help="Faults of one run.")] = 150,
    seed: Annotated[list[int], typer.Option(help="One run for each.")] = SEEDS,
    output: Annotated[Path | None, typer.Option(help="Where to write the report as JSON.")] = None,
) -> None:
    """Kill dispatchers, Redis and receivers at random while jobs end; then look for lost events."""
    reports = [observed(Plan(seed=one, n_jobs=jobs, n_faults=faults)) for one in seed]
    console.print(side_by_side("Webhooks: what was promised, and what came", reports, row))
    end(reports, output)


def observed(plan: Plan) -> Report:
    prefix = f"apex-webhooks-{plan.seed}-"
    logging.getLogger("worker.supervisor").setLevel(logging.CRITICAL)  # it says each death
    with tempfile.TemporaryDirectory(prefix=prefix) as directory, console.status(f"seed {plan.seed}"):
        report = run(plan, Path(directory))
    if not report.holds:
        console.print_json(data=report.json(), default=str)
    return report


def row(report: Report) -> dict[str, object]:
    return {
        "events of ends": report.n_expected,
        "faults": sum(report.faults.values()),
        "of these, Redis killed": report.faults.get("kill_redis", 0),
        "lost": len(report.lost),
        "without an end": len(report.invented),
        "of another type": len(report.wrong),
        "not verified": len(report.unverified),
        "left in the outbox": len(report.left),
        "repeats, under the same id": report.n_repeats,
        "all came after the last fault, s": report.settled_s,
        "took, s": report.took_s,
        "": "holds" if report.holds else "FAILS",
    }


if __name__ == "__main__":
    typer.run(main)
