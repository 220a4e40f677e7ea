"""The whole service from MP3 files, in so many slots on one card, beside LitServe and the plain loop."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from itertools import count

import httpx
import numpy as np

from benchmarks.baselines.reference_loop import Loop
from benchmarks.gpu.load import Load
from benchmarks.gpu.part import Row, Setting, Task
from benchmarks.service import Score, apex, litserve, score_with_apex, score_with_litserve

SLOTS = (16, 8, 4, 1)
CLIENTS_A_SLOT = 4
ID3V1_BYTES = 128


def tasks(setting: Setting) -> Iterator[Task]:
    most, *fewer = SLOTS if setting.on_device else (1,)
    yield Task(f"{most} slots", partial(_apex, setting, most, "auto"))
    yield Task("the reference's loop", partial(_loop, setting))
    yield Task("LitServe", partial(_litserve, setting), needs_package="litserve")
    for slots in fewer:
        yield Task(f"{slots} slots", partial(_apex, setting, slots, "auto"))
    yield Task(f"tf32, {SLOTS[0]} slots", partial(_apex, setting, SLOTS[0], "tf32"), needs_device=True)


def _apex(setting: Setting, slots: int, precision: str) -> Iterator[Row]:
    environment = {"APEX_PRECISION": precision}
    if not setting.on_device:
        environment["APEX_ENGINE"] = "torch"
    server = apex(setting.flat_weights, slots, device=setting.device, environment=environment)
    yield from _measured(f"apex, {precision}, {slots} slots", server, score_with_apex, setting, CLIENTS_A_SLOT * slots)


def _litserve(setting: Setting) -> Iterator[Row]:
    server = litserve(setting.flat_weights, device=setting.device)
    yield from _measured("LitServe, loop, fp32", server, score_with_litserve, setting, CLIENTS_A_SLOT)


def _loop(setting: Setting) -> Iterator[Row]:
    """No server: one file after the other."""
    loop = Loop(setting.flat_weights, device=setting.device)
    loop.scores(setting.track)
    waits: list[float] = []
    with Load() as load:
        ends_at = time.monotonic() + _lasts_s(setting)
        while time.monotonic() < ends_at:
            began = time.monotonic()
            loop.scores(setting.track)
            waits.append(time.monotonic() - began)
    yield {
        "server": "none: loop, fp32",
        "model": "fp32",
        "clients": 1,
        **_rates(setting, waits, sum(waits)),
        **load.found,
    }


def _measured(
    name: str, server: AbstractContextManager[str], score: Score, setting: Setting, n_clients: int
) -> Iterator[Row]:
    """Clients that send one track after the other, none of which is known already, until the time is over."""
    tracks = _tracks(setting)
    lock, waits = threading.Lock(), list[float]()
    limits = httpx.Limits(max_connections=n_clients)
    with server as url, httpx.Client(base_url=url, timeout=60, limits=limits) as client:
        score(client, next(tracks))

        def work(_: int) -> None:
            while (began := time.monotonic()) < ends_at:
                with lock:
                    content = next(tracks)
                score(client, content)
                waits.append(time.monotonic() - began)

        with Load() as load, ThreadPoolExecutor(n_clients) as pool:
            started = time.monotonic()
            ends_at = started + _lasts_s(setting)
            list(pool.map(work, range(n_clients)))
            took_s = time.monotonic() - started
        model = client.get("/model") if score is score_with_apex else None
        loaded = model.json()["loaded"]["precision"] if model else "fp32"
    yield {"server": name, "model": loaded, "clients": n_clients, **_rates(setting, waits, took_s), **load.found}


def _lasts_s(setting: Setting) -> float:
    return 8.0 if setting.on_device else 0.5


def _rates(setting: Setting, waits: list[float], took_s: float) -> Row:
    rate = len(waits) / took_s
    p50, p99 = np.percentile(waits, (50, 99)).tolist()
    segments = setting.segments_a_track * rate
    return {"tracks": len(waits), "tracks/s": rate, "segments/s": segments, "p50 s": p50, "p99 s": p99}


def _tracks(setting: Setting) -> Iterator[bytes]:
    """The same music with another comment each time: as much work, and no memory of scores helps."""
    music = setting.track.read_bytes()
    for number in count():
        yield music + f"TAG{number}".encode().ljust(ID3V1_BYTES, b"\0")
