"""(c) The whole service beside LitServe around the plain loop: tracks a minute, and what a client waits."""

import base64
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import numpy as np
from rich.progress import track

from model.audio import synthesizer
from tests.ports import free_port

READY_S = 180.0
RATE_HZ = 44_100
TRACK_S = 30.0

Score = Callable[[httpx.Client, bytes], None]


def run(
    weights_dir: Path, *, clients: tuple[int, ...], tracks_each: int, workers: tuple[int, ...]
) -> list[dict[str, Any]]:
    """A row for each server and number of clients. No two requests send the same track."""
    tracks = _tracks()
    servers: list[tuple[str, Any, Score]] = [
        *((f"apex, {n} worker{'s' * (n > 1)}", lambda n=n: apex(weights_dir, n), score_with_apex) for n in workers),
        ("LitServe + loop", lambda: litserve(weights_dir), score_with_litserve),
    ]
    rows = []
    for name, serve, score in servers:
        with serve() as url:
            _load(url, score, tracks, n_clients=1, n_tracks=1)
            for n_clients in track(clients, description=name):
                n_tracks = max(tracks_each, n_clients)
                rows.append({"server": name, "clients": n_clients, **_load(url, score, tracks, n_clients, n_tracks)})
    return rows


def _load(url: str, score: Score, tracks: Iterator[bytes], n_clients: int, n_tracks: int) -> dict[str, float]:
    waits: list[float] = []
    lock = threading.Lock()
    with httpx.Client(base_url=url, timeout=600, limits=httpx.Limits(max_connections=n_clients)) as client:

        def one(_: int) -> None:
            with lock:
                content = next(tracks)
            began = time.perf_counter()
            score(client, content)
            waits.append(time.perf_counter() - began)

        began = time.perf_counter()
        with ThreadPoolExecutor(n_clients) as pool:
            list(pool.map(one, range(n_tracks)))
        took = time.perf_counter() - began
    return {
        "tracks": n_tracks,
        "tracks_per_min": 60 * n_tracks / took,
        "p50_s": float(np.percentile(waits, 50)),
        "p99_s": float(np.percentile(waits, 99)),
    }


def score_with_apex(client: httpx.Client, content: bytes) -> None:
    answer = client.post("/score", files={"file": ("track.wav", content)}).raise_for_status().json()
    while not answer["done"]:
        answer = client.get(f"/jobs/{answer['id']}", params={"wait": 30}).raise_for_status().json()
    assert answer["status"] == "succeeded", answer


def score_with_litserve(client: httpx.Client, content: bytes) -> None:
    # Base64 in JSON is how its documentation sends audio.
    client.post("/predict", json={"content": base64.b64encode(content).decode()}).raise_for_status()


@contextmanager
def apex(
    weights_dir: Path, n_processes: int, *, device: str = "cpu", environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[str]:
    """`apex up` with so many workers, until the block ends."""
    port = free_port("127.0.0.1")
    with tempfile.TemporaryDirectory() as data_dir:
        command = [sys.executable, "-m", "app.cli", "up", "--port", str(port), "--data-dir", data_dir]
        flags = ["--weights", str(weights_dir), "--workers", str(n_processes), "--device", device]
        env = {"APEX_LOG_LEVEL": "WARNING", **environment}
        with _running([*command, *flags], env, f"http://127.0.0.1:{port}", "/model", '"loaded":{') as url:
            yield url


@contextmanager
def litserve(weights_dir: Path, *, device: str = "cpu") -> Iterator[str]:
    """LitServe around the reference's loop, until the block ends."""
    port = free_port("127.0.0.1")
    command = [sys.executable, "-m", "benchmarks.baselines.litserve_loop", str(port), str(weights_dir), device]
    with _running(command, {}, f"http://127.0.0.1:{port}", "/health", "ok") as url:
        yield url


@contextmanager
def _running(command: list[str], env: dict[str, str], url: str, path: str, ready: str) -> Iterator[str]:
    process = subprocess.Popen(command, env=os.environ | env, start_new_session=True)
    try:
        _wait_for(url + path, ready, process)
        yield url
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # LitServe's processes outlive its end
        process.wait()


def _wait_for(url: str, ready: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if ready in httpx.get(url).text:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise TimeoutError(f"{url} did not become ready")


def _tracks() -> Iterator[bytes]:
    """WAV files of the same length and cost, no two the same: nobody's memory of scores helps."""
    piece = synthesizer.synthesise(duration_s=TRACK_S, sample_rate_hz=RATE_HZ)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "track.wav"
        for number in count():
            synthesizer.write_wav(path, np.roll(piece, number * 101, axis=0), RATE_HZ)
            yield path.read_bytes()
