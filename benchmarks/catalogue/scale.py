"""What the engine itself costs at each size of a catalogue, with a decoder and a scorer that take no time.

    python -m benchmarks.catalogue.scale [--tracks 100000 --tracks 1000000]

Each size is a process of its own: a table of so many tracks as CSV, one actor, a folder for the output. Told are the
time, the processor time of this process and all of Ray's, and the most memory that this process, the driver, had.
Results go to `benchmarks/results/catalogue.json` and `catalogue.png`.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parents[1] / "results"
SIZES = (10_000, 100_000, 300_000, 1_000_000)


def measure(n_tracks: int, folder: Path) -> dict[str, float]:
    """One run, in this process."""
    from model.catalogue.engine import Catalogue, Progress, Slots, run
    from model.catalogue.manifest import read_manifest
    from model.catalogue.output import OutputFolder
    from model.catalogue.rows import ScoreRows
    from tests.model.catalogue.fakes import VERSION, FakeSources, fake_decoder, fake_scorer

    with (folder / "tracks.csv").open("w") as file:
        file.write("id,uri,platform\n")
        file.writelines(f"track-{number:08d},audio of {number},suno\n" for number in range(n_tracks))
    process, seconds, started = psutil.Process(), {"planned": 0.0}, time.monotonic()

    def note(now: Progress) -> None:
        if not seconds["planned"]:
            seconds["planned"] = time.monotonic() - started
        if now.done.n_tracks == n_tracks:
            seconds["processor"] = sum(map(_processor_s, [process, *process.children(recursive=True)]))

    catalogue = Catalogue(
        "tracks.csv",
        OutputFolder(folder / "out"),
        FakeSources(),
        ScoreRows(),
        kind="scores",
        provenance=VERSION,
        model_version=VERSION,
        load_scorer=fake_scorer,
        open_decoder=fake_decoder,
        bucket_tracks=100,
        uri_identity=str,
    )
    tracks = read_manifest(folder / "tracks.csv", str)
    summary = run(tracks, catalogue, Slots("cpu", actors=1), note)
    assert summary.n_tracks == n_tracks, summary
    return {
        "tracks": n_tracks,
        "time_s": round(time.monotonic() - started, 1),
        "planning_s": round(seconds["planned"], 1),
        "processor_ms_per_track": round(1e3 * seconds["processor"] / n_tracks, 3),
        "driver_peak_mib": round(_peak_kib() / 1024, 1),
        "output_mib": round(sum(path.stat().st_size for path in (folder / "out").iterdir()) / 2**20, 1),
    }


def _processor_s(process: psutil.Process) -> float:
    try:
        used = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(used.user + used.system)


def _peak_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def plot(rows: Sequence[dict[str, float]], path: Path) -> None:
    """Time and memory over the number of tracks, and the straight line through the first and the last time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    sizes = [row["tracks"] for row in rows]
    left.plot(sizes, [row["time_s"] for row in rows], "o-", label="measured")
    left.plot(sizes[:: len(sizes) - 1], [rows[0]["time_s"], rows[-1]["time_s"]], "--", label="straight line")
    left.set(xlabel="tracks", ylabel="seconds", ylim=0, title="time of a run")
    left.legend()
    right.plot(sizes, [row["driver_peak_mib"] for row in rows], "o-")
    right.set(xlabel="tracks", ylabel="MiB", ylim=0, title="peak memory of the driver")
    figure.savefig(path, dpi=110)


def main(
    tracks: Annotated[list[int] | None, typer.Option(help="Sizes of the catalogue.")] = None,
    results: Path = RESULTS,
    one: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure each size in a process of its own, and write a table and a plot."""
    sizes = tracks or list(SIZES)
    if one is not None:
        print(json.dumps(measure(sizes[0], one)))
        return
    rows = [_in_process(size) for size in sizes]
    (results / "catalogue.json").write_text(json.dumps(rows, indent=2) + "\n")
    if len(rows) > 1:
        plot(rows, results / "catalogue.png")
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{value:,}" for value in row.values()))
    Console().print(table)


def _in_process(size: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="apex-scale-") as folder:
        command = [sys.executable, "-m", "benchmarks.catalogue.scale", "--tracks", str(size), "--one", folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(found, flush=True)
    return found


if __name__ == "__main__":
    typer.run(main)
