"""Segments a second of the network alone: every precision, batch size, way to launch it, and attention kernel."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.part import Row, Setting, Task
from benchmarks.gpu.products import copied_bytes_per_s, product_flops_per_s, seconds_of
from model.audio.pcm import normalise
from model.domain import SAMPLE_RATE_HZ, SCORE_RANGES, SEGMENT_S, SEGMENT_SAMPLES
from model.inference.engines.cuda import (
    DTYPES,
    TF32,
    GraphedNetwork,
    compile_kernels,
    set_cuda_products,
    time_major,
)
from model.inference.engines.torch import TorchEngine
from model.inference.precision import probe
from model.networks.head_formats import load_head
from model.networks.mert import EncoderSource, PooledMert, fold_weight_norm

Forward = Callable[[torch.Tensor, int], torch.Tensor]

KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
#: Those that take 16 bits only.
HALF_KERNELS = ("flash", "cudnn")
STOCK, EAGER, GRAPH, COMPILED = "stock, eager", "eager", "CUDA graph", "compiled, CUDA graph"
SEARCHED = "CUDA graph, kernels searched by cuDNN"


@dataclass(frozen=True)
class Variant:
    """One way to run the network."""

    precision: str
    batch: int
    mode: str = GRAPH
    attention: str = "chosen by torch"
    sound_s: float = SEGMENT_S

    def __str__(self) -> str:
        return f"{self.precision}, batch {self.batch}, {self.mode}, {self.attention}, {self.sound_s:g} s"


#: What a CPU shows to work, without much of its time.
REHEARSED = (Variant("fp32", 1, EAGER), Variant("bf16", 1, STOCK))


def variants() -> Iterator[Variant]:
    """The most important first: what comes last may find no time."""
    precisions = ("fp16", "bf16", "tf32", "fp32")
    for batch in (8, 16, 1):
        yield from (Variant(precision, batch) for precision in precisions)
    yield from (Variant("fp16", 8, sound_s=sound_s) for sound_s in (25, 15, 10, 5, 2))
    yield from (Variant(precision, 8, STOCK) for precision in precisions)
    for kernel in KERNELS:
        yield from (Variant("fp16", 8, attention=kernel, sound_s=sound_s) for sound_s in (SEGMENT_S, 10))
    yield from (Variant("fp16", batch) for batch in (2, 3, 4, 6, 12, 32))
    yield from (Variant(precision, 1, EAGER) for precision in ("fp16", "fp32"))
    yield from (Variant(precision, 1, STOCK) for precision in precisions)
    yield from (Variant(precision, 10, SEARCHED) for precision in ("fp16", "tf32", "fp32"))
    yield Variant("tf32", 4)
    yield Variant("fp16", 8, COMPILED)
    yield from REHEARSED


def tasks(setting: Setting) -> Iterator[Task]:
    bench = Bench(setting)
    yield Task("products", bench.products)
    yield Task("float64", bench.float64)
    yield Task("the engine of the CPU", bench.cpu_engine)
    for variant in variants():
        yield Task(str(variant), partial(bench.rows, variant), needs_device=variant not in REHEARSED)


class Bench:
    """The network in every precision, the probe, and what is exact."""

    def __init__(self, setting: Setting) -> None:
        self._setting, self._device = setting, setting.device
        self._encoder = EncoderSource(setting.weights / "mert", "")
        self._mert = fold_weight_norm(self._encoder.load())
        self._head = deepcopy(load_head(setting.weights / "apex"))
        self._networks: dict[tuple[str, bool], PooledMert] = {}
        self._exact: dict[float, list[dict[str, float]]] = {}
        self._peaks: dict[str, float] = {}

    @cached_property
    def flops(self) -> int:
        """Of one segment, counted where nothing is computed."""
        network = PooledMert(deepcopy(self._mert).to("meta"))
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            network(torch.empty(1, SEGMENT_SAMPLES, device="meta"))
        return int(counter.get_total_flops())

    def products(self) -> Iterator[Row]:
        size = 8192 if self._setting.on_device else 256
        for precision in DTYPES if self._setting.on_device else [each.precision for each in REHEARSED]:
            self._peaks[precision] = product_flops_per_s(precision, self._device, size, self._setting.shortest_s)
            yield {"product": precision, "size": size, "TFLOP/s": self._peaks[precision] / 1e12}
        n_bytes = 1 << (32 if self._setting.on_device else 20)
        yield {
            "copy, bytes": n_bytes,
            "TB/s": copied_bytes_per_s(self._device, n_bytes, self._setting.shortest_s) / 1e12,
        }
        yield {"a segment takes, GFLOP": self.flops / 1e9}

    def float64(self) -> Iterator[Row]:
        for number, scores in enumerate(self.exact(SEGMENT_S)):
            yield {"probe": number, **scores}

    def cpu_engine(self) -> Iterator[Row]:
        engine = TorchEngine(self._encoder)
        yield {"engine": "CPU, fp32", **self.deviations(engine.embed(probes(SEGMENT_S)), SEGMENT_S)}

    def rows(self, variant: Variant) -> Iterator[Row]:
        segments = probes(variant.sound_s)
        samples = torch.from_numpy(np.resize(segments, (variant.batch, segments.shape[1])))
        samples = samples.to(self._device, DTYPES[variant.precision])
        n_padding = SEGMENT_SAMPLES - samples.shape[1]
        network, held = self._network(variant), 0
        if self._setting.on_device:
            set_cuda_products(tf32=variant.precision == TF32)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
        with torch.inference_mode(), _attention(variant.attention):
            forward = LAUNCHES[variant.mode](network)
            states = forward(samples, n_padding).float().cpu().numpy()
            seconds = seconds_of(lambda: forward(samples, n_padding), self._device, self._setting.shortest_s)
        rate = variant.batch / seconds
        yield {
            "precision": variant.precision,
            "batch": variant.batch,
            "sound, s": variant.sound_s,
            "launched": variant.mode,
            "attention": variant.attention,
            "ms a batch": 1000 * seconds,
            "segments/s": rate,
            "of the product's rate": rate * self.flops / self._peaks.get(variant.precision, math.nan),
            "memory above the weights, MB": _peak_mb(held) if self._setting.on_device else "-",
            **self.deviations(states, variant.sound_s),
        }

    def _network(self, variant: Variant) -> PooledMert:
        key = variant.precision, variant.mode == STOCK
        if key not in self._networks:
            self._networks[key] = (
                PooledMert(deepcopy(self._mert).to(self._device, DTYPES[variant.precision]))
                if variant.mode == STOCK
                else time_major(self._encoder, self._device, variant.precision)
            )
        return self._networks[key]

    def exact(self, sound_s: float) -> list[dict[str, float]]:
        """Scores of the probes in float64, on this device: other kernels than those that are compared."""
        if sound_s not in self._exact:
            segments = probes(sound_s)
            padded = np.pad(segments, ((0, 0), (0, SEGMENT_SAMPLES - segments.shape[1])))
            network = PooledMert(deepcopy(self._mert).double().to(self._device))
            with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
                states = [network(torch.from_numpy(each[None]).double().to(self._device)) for each in padded]
            self._exact[sound_s] = self.scores(torch.cat(states).cpu().numpy())
        return self._exact[sound_s]

    def scores(self, states: NDArray[np.floating]) -> list[dict[str, float]]:
        """Not rounded, by the head in float64."""
        embeddings = torch.from_numpy(self._head.layer_mix(states))
        with torch.inference_mode():
            by_name = self._head.head.double()(embeddings)
        return [{name: values[number].item() for name, values in by_name.items()} for number in range(len(states))]

    def deviations(self, states: NDArray[np.floating], sound_s: float) -> Row:
        """How far the scores of the probes are from exact ones, at the most: those of 0 to 100, and those of 1 to 5."""
        largest = {100.0: 0.0, 5.0: 0.0}
        exact = self.exact(sound_s)
        for number, scores in enumerate(self.scores(states)):
            for name, score in scores.items():
                high = SCORE_RANGES[name][1]
                largest[high] = max(largest[high], abs(score - exact[number % len(exact)][name]))
        return {"off, of 100": largest[100.0], "off, of 5": largest[5.0]}


def probes(sound_s: float) -> NDArray[np.float32]:
    """Normalised segments of so much sound; of a whole segment two, the second being mostly padding."""
    full, quarter = probe()
    if sound_s == SEGMENT_S:
        padded = normalise(quarter, SEGMENT_SAMPLES - len(quarter))
        return np.stack([normalise(full), np.pad(padded, (0, SEGMENT_SAMPLES - len(padded)))])
    n_samples = int(sound_s * SAMPLE_RATE_HZ)
    return normalise(full[:n_samples], SEGMENT_SAMPLES - n_samples)[None]


def _peak_mb(held: int) -> float:
    return (torch.cuda.max_memory_allocated() - held) / 1e6


def _attention(name: str) -> AbstractContextManager[None]:
    return sdpa_kernel(KERNELS[name]) if name in KERNELS else nullcontext()


def _from_python(network: PooledMert) -> Forward:
    return network


def _searched(network: PooledMert) -> Forward:
    """What cuDNN finds is kept for the shape, whoever asks next: measured at batches that no other row has."""
    graphs = GraphedNetwork(network)

    def forward(samples: torch.Tensor, n_padding: int) -> torch.Tensor:
        with torch.backends.cudnn.flags(benchmark=True, allow_tf32=torch.backends.cudnn.allow_tf32):
            return graphs(samples, n_padding)

    return forward


def _compiled(network: PooledMert) -> Forward:
    torch.compiler.reset()
    return GraphedNetwork(compile_kernels(network))


#: How a network's kernels are launched. STOCK is the network of transformers' parts, all others have our own.
LAUNCHES: dict[str, Callable[[PooledMert], Forward]] = {
    STOCK: _from_python,
    EAGER: _from_python,
    GRAPH: GraphedNetwork,
    COMPILED: _compiled,
    SEARCHED: _searched,
}
