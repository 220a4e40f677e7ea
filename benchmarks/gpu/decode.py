"""What decoding the track costs: in process, in sandboxed children alone and side by side; and the sandbox itself."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.gpu.load import Load
from benchmarks.gpu.part import Row, Setting, Task
from benchmarks.timing import cost_of
from model.audio.decoder import Decoder
from model.audio.sandbox.forkserver import ENVIRONMENT
from model.audio.sandbox.layers import LAYERS, ResourceLimits
from model.domain import AudioLimits

THREADS = (1, 4, 8, 16)
WINDOW_S = 1.5
ROUNDS = 4
FORKS = 16


def tasks(setting: Setting) -> Iterator[Task]:
    for what in MEASURED:
        yield Task(what, partial(_measured, what, setting))
    for n_threads in THREADS:
        yield Task(f"{n_threads} threads", partial(_rate, setting, n_threads), needs_device=n_threads > THREADS[1])


def _measured(what: str, setting: Setting) -> list[Row]:
    """What a process finds that is as the fork server is: without torch, and with that one's environment."""
    command = [sys.executable, "-m", __name__, what, str(setting.track)]
    done = subprocess.run(command, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, check=True, text=True)
    rows: list[Row] = json.loads(done.stdout)
    return rows


def _rate(setting: Setting, n_threads: int) -> Iterator[Row]:
    """Tracks per second of so many threads that share one decoder, and how long one took."""
    window_s = WINDOW_S if setting.on_device else 0.1
    with (
        Decoder(AudioLimits(), scratch_dir=setting.folder) as decoder,
        ThreadPoolExecutor(n_threads) as pool,
        Load() as load,
    ):
        began = time.monotonic()
        worked = [pool.submit(_decode_until, began + window_s, decoder, setting.track) for _ in range(n_threads)]
        times_s = [took_s for each in worked for took_s in each.result()]
        wall_s = time.monotonic() - began
    yield {
        "threads": n_threads,
        "tracks/s": len(times_s) / wall_s,
        "ms a track": 1000 * median(times_s),
        **load.found,
    }


def _decode_until(deadline: float, decoder: Decoder, track: Path) -> list[float]:
    times_s = list[float]()
    while time.monotonic() < deadline:
        times_s.append(cost_of(lambda: decoder.decode(track).close()).wall_s)
    return times_s


def in_process(track: Path) -> list[Row]:
    """`decode_file` without a child."""
    from model.audio.decoder_child import decode_file

    def decode() -> None:
        with track.open("rb", buffering=0) as source, open(os.devnull, "wb") as sink:
            decode_file(source, sink, AudioLimits())

    costs = [cost_of(decode) for _ in range(ROUNDS)][1:]
    least = {"wall, ms": min(cost.wall_s for cost in costs), "processor, ms": min(cost.cpu_s for cost in costs)}
    return [{"decode_file": "in process", **{name: 1000 * found_s for name, found_s in least.items()}}]


def sandbox(_: Path) -> list[Row]:
    """A fork and every layer, one child at a time and many at once."""
    import model.audio.decoder_child  # noqa: F401  what the fork server holds is what a fork copies

    return [row for at_once in (1, FORKS) for row in _layer_rows(at_once)]


def _layer_rows(at_once: int) -> list[Row]:
    found = [times for _ in range(FORKS // at_once) for times in _entered(at_once)]
    columns = {name: [times[name] for times in found] for name in found[0]}
    return [
        {"children at once": at_once, "step": name, "median, ms": median(times), "longest, ms": max(times)}
        for name, times in columns.items()
    ]


def _entered(n_children: int) -> list[dict[str, float]]:
    """Milliseconds that each of so many children took for each step."""
    pipes = [_forked() for _ in range(n_children)]
    found = []
    for pid, reading in pipes:
        with open(reading, "rb") as pipe:
            found.append(json.loads(pipe.read()))
        os.waitpid(pid, 0)
    return found


def _forked() -> tuple[int, int]:
    reading, writing = os.pipe()
    began = time.perf_counter()
    pid = os.fork()
    if not pid:
        times = {"fork": 1000 * (time.perf_counter() - began)}
        for name, apply in LAYERS.items():
            times[name] = _applied_ms(apply)
        os.write(writing, json.dumps(times).encode())
        os._exit(0)
    os.close(writing)
    return pid, reading


def _applied_ms(apply: Callable[[ResourceLimits], None]) -> float:
    began = time.perf_counter()
    try:
        apply(ResourceLimits(memory_bytes=1 << 30, cpu_s=62, file_bytes=1 << 30))
    except OSError:
        return float("nan")  # this machine has no such layer
    return 1000 * (time.perf_counter() - began)


MEASURED: dict[str, Callable[[Path], list[Row]]] = {"in process": in_process, "sandbox": sandbox}


if __name__ == "__main__":
    print(json.dumps(MEASURED[sys.argv[1]](Path(sys.argv[2]))))
