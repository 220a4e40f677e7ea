"""`make fuzz`, `python -m tests.fuzz --files 100000 --seed 1`: mutated files of every format against the decoder.

Ends with status 1 when there is a finding; each is saved as a file, to become a test.
"""

import os
import resource
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.fuzz.campaign import FINDINGS, Tally, decoder, file_of, run, seeds

console = Console()


def main(
    files: Annotated[int, typer.Option(min=1, help="How many files to decode.")] = 100_000,
    seed: Annotated[int | None, typer.Option(help="The same seed makes the same files. Default: a new one.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Files in flight.")] = 2 * (os.cpu_count() or 1),
    findings: Annotated[Path, typer.Option(help="Where files worth a test are saved.")] = Path("fuzz-findings"),
) -> None:
    """Decode mutated files, say what became of them, and save those that did harm."""
    seed = secrets.randbelow(2**32) if seed is None else seed
    console.print(f"seed {seed}: {files} files mutated from {len(seeds())}, {threads} at a time")
    descriptors = len(os.listdir("/proc/self/fd"))
    tally, took_s = campaign(seed=seed, n_files=files, n_threads=threads)
    console.print(table(tally, files))
    console.print(
        f"{files / took_s:.0f} files/s; slowest {tally.slowest_s:.2f} s; {tally.n_repeated} decoded twice; "
        f"{len(os.listdir('/proc/self/fd')) - descriptors:+d} descriptors; "
        f"peak of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB"
    )
    for index, name in tally.findings:
        findings.mkdir(exist_ok=True)
        path = findings / f"{seed}-{index}"
        path.write_bytes(file_of(seed, index))
        console.print(f"[red]{name}[/red]: {path}")
    sys.exit(1 if tally.findings else 0)


def campaign(*, seed: int, n_files: int, n_threads: int) -> tuple[Tally, float]:
    """The whole campaign behind a progress bar; its tally and how many seconds it took."""
    columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:.0f} files/s"), TimeRemainingColumn()
    with tempfile.TemporaryDirectory() as scratch, decoder(Path(scratch)) as sandboxed, Progress(*columns) as progress:
        console.print(f"sandbox layers: {', '.join(sandboxed.layers)}")
        task = progress.add_task("", total=n_files, rate=0.0)
        for n_done, tally in run(sandboxed, seed=seed, n_files=n_files, n_threads=n_threads):  # noqa: B007
            progress.update(task, completed=n_done, rate=progress.tasks[0].speed or 0.0)
        return tally, progress.tasks[0].elapsed or 1.0


def table(tally: Tally, n_files: int) -> Table:
    """How many files came to which end."""
    rows = Table("outcome", "files", "share")
    for name, count in (+tally.outcomes).most_common():
        rows.add_row(f"[red]{name}[/red]" if name in FINDINGS else name, str(count), f"{count / n_files:.2%}")
    return rows


if __name__ == "__main__":
    typer.run(main)
