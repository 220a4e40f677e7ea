"""What the host does for a batch, and what the device waits for: steps in milliseconds, and a trace of the profiler."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.part import Row, Setting, Task
from benchmarks.gpu.products import seconds_of
from model.audio.pcm import normalise
from model.domain import SEGMENT_SAMPLES
from model.inference.engines.torch import TorchEngine
from model.networks.mert import EncoderSource

BATCH = 8
PROFILED_BATCHES = 3
TRACE = "trace.json.gz"
N_KERNELS = 12


def tasks(setting: Setting) -> Iterator[Task]:
    batch = 1 if not setting.on_device else BATCH
    segments = np.random.default_rng(0).standard_normal((batch, SEGMENT_SAMPLES), np.float32)
    for name, work in _on_the_host(segments).items():
        yield Task(name, partial(_row, name, work, "cpu", setting.shortest_s))
    if setting.on_device:
        for name, work in _transfers(torch.from_numpy(segments)).items():
            yield Task(name, partial(_row, name, work, setting.device, setting.shortest_s))
    else:
        yield Task("transfers", list, needs_device=True)
    for precision in ("bf16", "tf32") if setting.on_device else ("fp32",):
        engine = TorchEngine(EncoderSource(setting.weights / "mert", ""), device=setting.device, precision=precision)
        embed = partial(_row, f"{precision}: embed", partial(engine.embed, segments), "cpu", setting.shortest_s)
        yield Task(f"{precision}, embed", embed)
        yield Task(f"{precision}, trace", partial(_profiled, setting, engine, segments, f"{precision}-{TRACE}"))


def _row(name: str, work: Callable[[], object], device: str, shortest_s: float) -> Iterator[Row]:
    yield {"step": name, "ms": 1000 * seconds_of(work, device, shortest_s)}


def _on_the_host(segments: np.ndarray) -> dict[str, Callable[[], object]]:
    return {
        "normalise one segment": lambda: normalise(segments[0]),
        "stack a batch": lambda: np.stack(list(segments)),
    }


def _transfers(segments: torch.Tensor) -> dict[str, Callable[[], object]]:
    pinned, on_device = segments.pin_memory(), segments.cuda()
    states = torch.zeros(len(segments), 4, 768, device="cuda")
    return {
        "pin a batch": segments.pin_memory,
        "copy it, not pinned": segments.cuda,
        "copy it, pinned": lambda: pinned.to("cuda", non_blocking=True),
        "copy it, pinned, to bf16 on the CPU": lambda: pinned.to("cuda", torch.bfloat16, non_blocking=True),
        "copy it, pinned, to bf16 on the device": lambda: pinned.to("cuda", non_blocking=True).to(torch.bfloat16),
        "to bf16 on the device": lambda: on_device.to(torch.bfloat16),
        "copy the states back": states.cpu,
    }


def _profiled(setting: Setting, engine: TorchEngine, segments: np.ndarray, name: str) -> Iterator[Row]:
    """How long the device works and waits while batches follow each other, and the kernels that take longest."""
    n_batches = PROFILED_BATCHES if setting.on_device else 1
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if setting.on_device else [])]
    with profile(activities=activities) as profiler:
        began = time.perf_counter()
        for _ in range(n_batches):
            engine.embed(segments)
        wall_us = 1e6 * (time.perf_counter() - began)
    profiler.export_chrome_trace(str(setting.out / name))
    yield {"profiled": engine.precision, **_occupation(_kernels(profiler), wall_us, n_batches)}
    totals: Counter[str] = Counter()
    for kernel in _kernels(profiler):
        totals[kernel.name[:100]] += kernel.time_range.elapsed_us()
    for kernel_name, took_us in totals.most_common(N_KERNELS):
        yield {"kernel": kernel_name, "ms a batch": took_us / 1000 / n_batches, "share": took_us / wall_us}


def _kernels(profiler: profile) -> list[Any]:
    """What ran on the device, in order."""
    cuda = torch.autograd.DeviceType.CUDA  # type: ignore[attr-defined]
    events: list[Any] = profiler.events() or []  # type: ignore[no-untyped-call]
    return sorted((event for event in events if event.device_type == cuda), key=lambda event: event.time_range.start)


def _occupation(kernels: list[Any], wall_us: float, n_batches: int) -> Row:
    busy_us, longest_gap_us, end = 0.0, 0.0, kernels[0].time_range.start if kernels else 0.0
    for kernel in kernels:
        longest_gap_us = max(longest_gap_us, kernel.time_range.start - end)
        busy_us += max(kernel.time_range.end - max(kernel.time_range.start, end), 0.0)
        end = max(end, kernel.time_range.end)
    return {
        "kernels a batch": len(kernels) // n_batches,
        "device busy": busy_us / wall_us,
        "ms a batch": wall_us / 1000 / n_batches,
        "longest gap, ms": longest_gap_us / 1000,
    }
