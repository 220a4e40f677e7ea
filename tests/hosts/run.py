"""`python -m tests.hosts.run`, as the first process of namespaces of its own: the runs, a table and a JSON report."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.campaigns import end, side_by_side
from tests.chaos.__main__ import progressing
from tests.hosts.campaign import Plan, Report, run
from tests.hosts.faults import LANES
from tests.hosts.isolation import prepare

SEEDS = [1, 2, 3]
console = Console()


def main(
    jobs: Annotated[int, typer.Option(help="Tracks of one run.")] = 1000,
    faults: Annotated[int, typer.Option(help="Faults of one run; 0 is one of each kind.")] = 200,
    seed: Annotated[list[int], typer.Option(help="One run for each.")] = SEEDS,
    hurry: Annotated[bool, typer.Option("--hurry", help="As short as faults may be.")] = False,
    output: Annotated[Path | None, typer.Option(help="Where to write the report as JSON.")] = None,
) -> None:
    """Cut, kill and mislead hosts at random under load; then look for what was lost, changed or left over."""
    prepare()
    reports = []
    for one in seed:
        reports.append(observed(Plan(seed=one, n_jobs=jobs, n_faults=faults, hurry=hurry)))
        console.print(side_by_side("Many hosts: what was promised, and what was left over", reports, row))
    end(reports, output)


def observed(plan: Plan) -> Report:
    """One run with a line of progress; its folder is kept."""
    directory = Path(tempfile.mkdtemp(prefix=f"apex-hosts-{plan.seed}-"))
    console.print(f"seed {plan.seed}, logs in {directory}")
    with progressing(plan.n_jobs, plan.n_faults, console) as show:
        report = run(plan, directory, show)
    for finding in report.findings:
        console.print(f"[red]{finding}[/red]")
    for namespace, service in report.services.items():
        for name, members in {**service.result.sets, **service.result.residue}.items():
            if members:
                console.print(f"[red]{namespace}, {name}[/red]: {sorted(members)[:10]}")
        for first, later in service.changes:
            console.print(f"{namespace}: {first!r} became {later!r}", markup=False)
    return report


def row(report: Report) -> dict[str, object]:
    services = report.services.values()
    sets = {
        name: sum(len(service.result.sets[name]) for service in services)
        for name in ("lost", "unexpected", "flipped", "seen_twice", "stuck")
    }
    return {
        "jobs accepted": " + ".join(str(service.n_accepted) for service in services),
        "faults": sum(report.faults.values()),
        **{f"of these, {lane.name}": sum(report.faults.get(kind.name, 0) for kind in lane.kinds) for lane in LANES},
        **{name.replace("_", " "): n for name, n in sets.items()},
        "residue": sum(service.result.n_residue for service in services),
        "findings": len(report.findings),
        "runs begun again": sum(service.n_runs_again for service in services),
        "answers that were no yes": sum(service.n_refusals for service in services),
        "settled after, s": report.settled_s,
        "took, s": report.took_s,
        "": "holds" if report.holds else "FAILS",
    }


if __name__ == "__main__":
    typer.run(main)
