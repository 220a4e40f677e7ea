"""`python -m tests.attack [--minutes N] [--seed N ...] [--phase NAME ...]`: an attack, a table and a JSON report."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.attack.campaign import PhaseReport, Plan, Report, run
from tests.attack.phases.table import BY_NAME, PHASES
from tests.campaigns import end

console = Console()


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="Of one attack, spread evenly over its phases.")] = 60.0,
    seed: Annotated[list[int], typer.Option(help="One attack for each.")] = [1],  # noqa: B006
    phase: Annotated[list[str], typer.Option(help=f"Only these: {', '.join(BY_NAME)}.")] = list(BY_NAME),  # noqa: B006
    output: Annotated[Path | None, typer.Option(help="Where to write the report as JSON.")] = None,
) -> None:
    """Attack a service on this machine in every way there is; then look for what was lost, changed or left over.

    Everything stays on the loopback interface. As root, disks are mounted and processes traced, too.
    """
    if unknown := set(phase) - set(BY_NAME):
        raise typer.BadParameter(f"there is no phase {', '.join(sorted(unknown))}")
    phases = tuple(one for one in PHASES if one.name in phase)
    reports = [observed(Plan(seed=one, minutes=minutes, phases=phases)) for one in seed]
    end(reports, output)


def observed(plan: Plan) -> Report:
    """One attack behind a progress bar, and its table."""
    directory = Path(tempfile.mkdtemp(prefix=f"apex-attack-{plan.seed}-"))
    console.print(f"seed {plan.seed}: {len(plan.phases)} phases of {plan.phase_s:.0f} s, logs in {directory}")
    with progress(plan) as on_phase:
        report = run(plan, directory, on_phase)
    console.print(table(report))
    for name, text in findings(report):
        console.print(f"[red]{name}[/red]: {text}", highlight=False)
    return report


@contextmanager
def progress(plan: Plan) -> Iterator[Callable[[str], None]]:
    """A bar of seconds, which knows the phase that it is told; recoveries are beyond its end."""
    columns = (TextColumn("{task.description:>16}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    began, stop = time.monotonic(), threading.Event()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("start", total=60 * plan.minutes)

        def tick() -> None:
            while not stop.wait(0.5):
                bar.update(task, completed=min(time.monotonic() - began, 60 * plan.minutes))

        ticker = threading.Thread(target=tick, daemon=True)
        ticker.start()
        try:
            yield lambda name: bar.update(task, description=name)
        finally:
            stop.set()
            ticker.join()


def table(report: Report) -> Table:
    found = Table(title=f"Attack, seed {report.plan.seed}: {'holds' if report.holds else 'FAILS'}")
    for name in COLUMNS:
        found.add_column(name, justify="left" if name == "phase" else "right")
    for phase in report.phases:
        found.add_row(*(row(phase) if not phase.lacks else [phase.name, f"not run: lacks {phase.lacks}"]))
    for service in report.services:
        sets = {name: len(members) for name, members in service.result.sets.items()}
        sets["residue"] = service.result.n_residue
        text = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in sets.items())
        found.caption = f"{found.caption or ''}{service.n_accepted} jobs accepted: {text}\n"
    return found


COLUMNS = (
    "phase", "acts", "jobs ended meanwhile", "served again, s", "caught up, s", "memory", "internal errors",
    "tracebacks", "findings",
)  # fmt: skip


def row(phase: PhaseReport) -> list[str]:
    return [
        phase.name,
        str(sum(phase.acts.values())),
        str(phase.n_ended),
        f"{phase.served_again_s:.1f}",
        f"{phase.caught_up_s:.1f}",
        f"{phase.memory_ratio:.2f}",
        str(sum(phase.internal_errors.values())),
        str(sum(phase.tracebacks.values())),
        str(len(phase.findings)),
    ]


def findings(report: Report) -> Iterator[tuple[str, str]]:
    for phase in report.phases:
        yield from ((phase.name, text) for text in phase.findings)
    for service in report.services:
        yield from (("end", text) for text in service.findings)
        yield from (("end", f"{name}: {sorted(ids)[:5]}") for name, ids in service.result.sets.items() if ids)
        yield from (
            ("end", f"left over: {name}: {found[:5]}") for name, found in service.result.residue.items() if found
        )


if __name__ == "__main__":
    typer.run(main)
