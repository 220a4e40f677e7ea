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
from model.audio.pcm import Samples, normalise
from model.domain import SCORE_RANGES, SEGMENT_SAMPLES
from model.inference.engines.torch import DTYPES, TF32, TorchEngine, compiled_graphs, set_cuda_products
from model.inference.precision import probe
from model.networks.head_formats import load_head
from model.networks.mert import EncoderSource, PooledMert, fold_weight_norm, load_mert

Forward = Callable[[torch.Tensor], torch.Tensor]

KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
#: Those that take 16 bits only.
HALF_KERNELS = ("flash", "cudnn")
EAGER, GRAPH, COMPILED, COMPILED_GRAPH = "eager", "CUDA graph", "compiled", "compiled, CUDA graph"


@dataclass(frozen=True)
class Variant:
    """One way to run the network."""

    precision: str
    batch: int
    mode: str = EAGER
    attention: str = "chosen by torch"

    def __str__(self) -> str:
        return f"{self.precision}, batch {self.batch}, {self.mode}, {self.attention}"


#: What a CPU shows to work, without much of its time.
REHEARSED = (Variant("fp32", 1), Variant("bf16", 1))


def variants() -> Iterator[Variant]:
    """The most important first: what comes last may find no time."""
    precisions = ("bf16", "tf32", "fp16", "fp32")
    for batch in (8, 1, 16):
        yield from (Variant(precision, batch) for precision in precisions)
    for kernel in KERNELS:
        yield Variant("bf16", 8, attention=kernel)
        if kernel not in HALF_KERNELS:
            yield Variant("tf32", 8, attention=kernel)
    for batch in (1, 2, 8):
        yield from (Variant(precision, batch, GRAPH) for precision in ("bf16", "tf32"))
    for batch in (32, 4, 2):
        yield from (Variant(precision, batch) for precision in precisions)
    yield Variant("bf16", 8, COMPILED_GRAPH)
    yield Variant("bf16", 1, COMPILED_GRAPH)
    yield Variant("tf32", 8, COMPILED_GRAPH)
    yield Variant("bf16", 8, COMPILED)


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
        self._mert = fold_weight_norm(load_mert(setting.weights / "mert"))
        self._head = deepcopy(load_head(setting.weights / "apex"))
        self._networks: dict[str, PooledMert] = {}
        self._peaks: dict[str, float] = {}
        self._probe = np.stack([_padded(segment) for segment in probe()])

    @cached_property
    def flops(self) -> int:
        """Of one segment, counted where nothing is computed."""
        network = PooledMert(deepcopy(self._mert).to("meta"))
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            network(torch.empty(1, SEGMENT_SAMPLES, device="meta"))
        return int(counter.get_total_flops())

    @cached_property
    def exact(self) -> list[dict[str, float]]:
        """Scores of the probe's segments in float64, on this device: other kernels than those that are compared."""
        network = PooledMert(deepcopy(self._mert).double().to(self._device))
        with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
            states = [network(torch.from_numpy(each[None]).double().to(self._device)) for each in self._probe]
        return self.scores(torch.cat(states).cpu().numpy())

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
        for number, scores in enumerate(self.exact):
            yield {"probe": number, **scores}

    def cpu_engine(self) -> Iterator[Row]:
        engine = TorchEngine(EncoderSource(self._setting.weights / "mert", ""))
        yield {"engine": "CPU, fp32", **self.deviations(engine.embed(self._probe))}

    def rows(self, variant: Variant) -> Iterator[Row]:
        samples = torch.from_numpy(np.resize(self._probe, (variant.batch, SEGMENT_SAMPLES)))
        samples = samples.to(self._device, DTYPES[variant.precision])
        network, held = self._network(variant.precision), 0
        if self._setting.on_device:
            set_cuda_products(tf32=variant.precision == TF32)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
        with torch.inference_mode(), _attention(variant.attention):
            forward = MODES[variant.mode](network, samples)
            states = forward(samples).float().cpu().numpy()
            seconds = seconds_of(lambda: forward(samples), self._device, self._setting.shortest_s)
        rate = variant.batch / seconds
        yield {
            "precision": variant.precision,
            "batch": variant.batch,
            "launched": variant.mode,
            "attention": variant.attention,
            "ms a batch": 1000 * seconds,
            "segments/s": rate,
            "of the product's rate": rate * self.flops / self._peaks.get(variant.precision, math.nan),
            "memory above the weights, MB": _peak_mb(held) if self._setting.on_device else "-",
            **self.deviations(states),
        }

    def _network(self, precision: str) -> PooledMert:
        if precision not in self._networks:
            mert = deepcopy(self._mert).to(self._device, DTYPES[precision])
            self._networks[precision] = PooledMert(mert)
        return self._networks[precision]

    def scores(self, states: NDArray[np.floating]) -> list[dict[str, float]]:
        """Not rounded, by the head in float64."""
        embeddings = torch.from_numpy(self._head.layer_mix(states))
        with torch.inference_mode():
            by_name = self._head.head.double()(embeddings)
        return [{name: values[number].item() for name, values in by_name.items()} for number in range(len(states))]

    def deviations(self, states: NDArray[np.floating]) -> Row:
        """How far the scores of the probe are from exact ones, at the most: those of 0 to 100, and those of 1 to 5."""
        largest = {100.0: 0.0, 5.0: 0.0}
        for number, scores in enumerate(self.scores(states)):
            exact = self.exact[number % len(self.exact)]
            for name, score in scores.items():
                high = SCORE_RANGES[name][1]
                largest[high] = max(largest[high], abs(score - exact[name]))
        return {"off, of 100": largest[100.0], "off, of 5": largest[5.0]}


def _padded(segment: Samples) -> Samples:
    """The normalised segment, with all of its padding."""
    n_padding = SEGMENT_SAMPLES - len(segment)
    return np.pad(normalise(segment, n_padding), (0, n_padding))


def _peak_mb(held: int) -> float:
    return (torch.cuda.max_memory_allocated() - held) / 1e6


def _attention(name: str) -> AbstractContextManager[None]:
    return sdpa_kernel(KERNELS[name]) if name in KERNELS else nullcontext()


def _eager(network: PooledMert, _: torch.Tensor) -> Forward:
    return network


def _graph(network: PooledMert, samples: torch.Tensor) -> Forward:
    """The kernels of eager mode, recorded once and launched together."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):  # libraries allocate and choose kernels, which must not happen while they are recorded
            network(samples)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        states: torch.Tensor = network(samples)

    def replay(_: torch.Tensor) -> torch.Tensor:
        graph.replay()
        return states

    return replay


def _compiled(network: PooledMert, _: torch.Tensor) -> Forward:
    torch.compiler.reset()
    compiled: Forward = torch.compile(network, fullgraph=True, dynamic=False)
    return compiled


def _compiled_graph(network: PooledMert, _: torch.Tensor) -> Forward:
    torch.compiler.reset()
    graphs: Forward = compiled_graphs(network)
    return graphs


MODES = {EAGER: _eager, GRAPH: _graph, COMPILED: _compiled, COMPILED_GRAPH: _compiled_graph}
