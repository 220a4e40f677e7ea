"""What scoring costs, beside what one would use instead.

    python -m benchmarks [--size quick|full] [--only engine]... [--weights DIR]

Every part prints a table and writes it, with the machine it ran on and a picture, to `benchmarks/results/`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import engine, front_end, growth, padding, queue, report, service
from benchmarks.timing import machine
from model.inference.engines.selection import default_cache_dir
from model.weights.directory import write_stand_in

Rows = list[dict[str, Any]]


class Part(StrEnum):
    """What can be measured."""

    ENGINE = "engine"
    FRONT_END = "front_end"
    SERVICE = "service"
    GROWTH = "growth"
    QUEUE = "queue"
    PADDING = "padding"


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    durations_s: tuple[int, ...]
    clients: tuple[int, ...]
    tracks_each: int
    jobs: int


SIZES = {
    "quick": Size(rounds=2, durations_s=(10, 60, 180), clients=(1, 4), tracks_each=4, jobs=100),
    "full": Size(rounds=3, durations_s=(10, 60, 180, 900), clients=(1, 4, 16), tracks_each=6, jobs=500),
}
TITLES = {
    Part.ENGINE: "Embedding one segment of 30 s",
    Part.FRONT_END: "From a 3-minute file to samples at 24 kHz",
    Part.SERVICE: "The whole service",
    Part.GROWTH: "Cost by length of the track",
    Part.QUEUE: "A job beyond decoding and inference",
    Part.PADDING: "Tracks whose last segment is not full",
}


def main(
    size: Annotated[str, typer.Option(help="quick (minutes) or full.")] = "quick",
    only: Annotated[list[Part] | None, typer.Option(help="This part alone; may be given again.")] = None,
    weights: Annotated[Path, typer.Option(help="Made untrained, of the published size, if not there.")] = Path(
        "weights-stand-in"
    ),
) -> None:
    """Measure, print, save."""
    if not weights.exists():
        write_stand_in(weights, size="full")
    on = machine()
    Console().print(on)
    for part, rows_of in parts(weights, SIZES[size]).items():
        if not only or part in only:
            report.save(part, TITLES[part], rows_of(), on)


def parts(weights: Path, size: Size) -> dict[Part, Callable[[], Rows]]:
    cache = default_cache_dir()
    return {
        Part.ENGINE: lambda: engine.run(weights, cache, size.rounds),
        Part.FRONT_END: lambda: front_end.run(size.rounds),
        Part.SERVICE: lambda: service.run(weights, clients=size.clients, tracks_each=size.tracks_each, workers=(1, 2)),
        Part.GROWTH: lambda: growth.run(weights, cache, size.durations_s),
        Part.QUEUE: lambda: queue.run(size.jobs),
        Part.PADDING: lambda: padding.run(weights, cache, size.rounds),
    }


if __name__ == "__main__":
    typer.run(main)
