"""Many files without the service, as `apex score` works on them, in one process and in two on one card.

Not by `apex train extract`: Ray is not carried, because its package alone is larger than all others together.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.gpu.part import Row, Setting, Task

N_FILES = 160
PROCESSES = (1, 2)


def tasks(setting: Setting) -> Iterator[Task]:
    for n_processes in PROCESSES:
        run = partial(_rows, setting, n_processes, "fp16")
        yield Task(f"fp16, {n_processes} processes", run, needs_device=n_processes > 1)
    yield (
        Task("2 processes", list, needs_device=True)
        if not setting.on_device
        else Task("tf32, 1 processes", partial(_rows, setting, 1, "tf32"))
    )


def _rows(setting: Setting, n_processes: int, precision: str) -> Iterator[Row]:
    """The files are divided among the processes, which begin together when all are warm."""
    n_files = N_FILES if setting.on_device else 3
    command = [sys.executable, "-m", __name__, str(setting.flat_weights), setting.device, precision]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [*command, str(setting.track), str(n_files // n_processes), str(n_processes)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(n_processes)
        ]
        about = [json.loads(process.stdout.readline()) for process in processes if process.stdout]
        began = time.monotonic()
        answers = _together(processes)
        took_s = time.monotonic() - began
    n_segments = sum(int(said) for said, _ in answers)
    yield {
        "processes": n_processes,
        "precision": about[0]["precision"],
        "files": n_files,
        "files/s": n_files / took_s,
        "segments/s": n_segments / took_s,
    }


def _together(processes: list[subprocess.Popen[str]]) -> list[tuple[str, str]]:
    """What they print, after all were told to go before any is waited for."""
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate() for process in processes]


def main() -> None:
    """One of the processes: says what it has loaded, waits for a line, and prints how many segments it scored."""
    from model.audio.decoder import Decoder
    from model.audio.prefetch import prefetch
    from model.domain import AudioLimits
    from model.inference.scorer import Scorer
    from model.processors import usable_cores

    weights, device, precision, track, n_files, n_processes = sys.argv[1:]
    engine = "torch" if device == "cpu" else "auto"
    scorer = Scorer.load(Path(weights), device=device, precision=precision, engine=engine)
    scorer.warm_up()
    with Decoder(AudioLimits(), scratch_dir=Path(track).parent) as decoder:
        sys.stdout.write(json.dumps({"precision": scorer.card.precision}) + "\n")
        sys.stdout.flush()
        sys.stdin.readline()
        files = [Path(track)] * int(n_files)
        tracks = prefetch(files, decoder, n_threads=max(1, usable_cores() // int(n_processes)))
        sys.stdout.write(f"{sum(each.n_segments for each, _ in scorer.score_many(tracks))}\n")


if __name__ == "__main__":
    main()
