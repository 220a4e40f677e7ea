"""`python -m benchmarks.gpu OUT [--rehearse] [--only PART]...`; see the package."""

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.gpu.campaign import campaign
from benchmarks.gpu.part import Setting
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.record import Record


def main(
    out: Path,
    rehearse: Annotated[bool, typer.Option(help="On the CPU, with tiny weights: do all parts run?")] = False,
    only: Annotated[list[str] | None, typer.Option(help="This part, after the first. Repeatable.")] = None,
) -> None:
    """Measure what this machine's CUDA device does, part by part. Exit status 1 if anything failed."""
    out.mkdir(parents=True, exist_ok=True)
    chosen = [part for part in PARTS if not only or part.name in ("machine", *only)]
    record = Record(out, rehearse)
    with tempfile.TemporaryDirectory(prefix="apex-gpu-") as folder:
        setting = Setting("cpu" if rehearse else "cuda", Path(folder), out.absolute())
        campaign(chosen, setting, record, say=partial(print, flush=True))
    sys.exit(any("failed" in part.notes for part in record.parts.values()))


if __name__ == "__main__":
    typer.run(main)
