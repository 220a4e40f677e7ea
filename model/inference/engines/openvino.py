"""OpenVINO: the engine of CPUs. The stock network, exported from PyTorch and compiled for the processor at hand.

The only module that imports openvino. Its telemetry is off: the package that sends it cannot be imported.
"""

import hashlib
import logging
import platform
import re
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model.audio.pcm import Samples
from model.domain import SEGMENT_SAMPLES, PrecisionUnavailable
from model.inference.engines.batching import stacked
from model.inference.engines.cache import Blob, Cache
from model.networks.mert import AnyLength, EncoderSource, PooledMert, fold_weight_norm
from model.networks.padding import N_REPRESENTATIVES, Padding

# OpenVINO sends no telemetry where this package is missing. Its own switch is a dialog, which a service cannot answer.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402

log = logging.getLogger(__name__)

#: Increase when this module exports another network from the same weights.
EXPORT_VERSION = 3
#: What OpenVINO calls a precision, and what it calls the ability to compute in it.
HINTS = {"fp32": ("f32", "FP32"), "bf16": ("bf16", "BF16")}

Options = dict[str, object]


class OpenVinoEngine:
    """MERT on the CPU, one segment at a time, so that a segment's numbers do not depend on its neighbours.

    Takes as many threads as torch would. A network that was compiled once is read back in a second. There are two: one
    for full segments, and one for shorter ones, whose padding it leaves out. The second is loaded when it is needed.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, encoder: EncoderSource, *, precision: str = "fp32", cache_dir: Path) -> None:
        self.precision = precision
        self._core, self._encoder, self._cache = openvino.Core(), encoder, Cache(cache_dir)
        self._filters = encoder.filters()
        _require(self._core, precision)
        self._full = self._loaded(FULL)

    def embed(self, segments: Iterable[Samples]) -> NDArray[np.float32]:
        """Segments to the time means of four hidden states (n, 4, hidden_size).

        segments : normalised, shape = (720000,) each; zeros follow a shorter one
        """
        return np.concatenate([self._pooled(segment) for segment in segments])

    def _pooled(self, segment: Samples) -> NDArray[np.float32]:
        (samples,) = stacked([segment])
        padding = Padding.of(self._filters, len(samples), SEGMENT_SAMPLES - len(samples), repeated=False)
        if not padding.log_weights:
            return self._full.infer(_zero_padded(samples))
        n_left_out, log_weights = np.float32(padding.n_left_out), np.array(padding.log_weights, np.float32)
        return self._short.infer(np.pad(samples, (0, padding.n_zeros)), n_left_out, log_weights)

    @cached_property
    def _short(self) -> "Network":
        return self._loaded(SHORT)

    def _loaded(self, graph: "Graph") -> "Network":
        return Network(*_load(self._core, self._encoder, graph, _options(self.precision), self._cache))


class Network:
    """A compiled network and a request to run it."""

    def __init__(self, blob: Blob, network: openvino.CompiledModel) -> None:
        self._blob = blob  # the network reads its weights out of it, and does not keep it alive
        self._request = network.create_infer_request()

    def infer(self, samples: Samples, *others: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
        """The time means of one segment, shape = (1, 4, hidden_size)."""
        pooled: NDArray[np.float32] = self._request.infer([samples[None], *others])[0].copy()
        return pooled


@dataclass(frozen=True)
class Graph:
    """One of the two networks, as it is exported."""

    name: str
    build: Callable[[PooledMert], nn.Module]
    examples: tuple[torch.Tensor, ...]
    shapes: tuple[list[int], ...]
    dynamic_shapes: tuple[Any, ...] | None = None


FULL = Graph("full", lambda network: network, (torch.zeros(1, SEGMENT_SAMPLES),), ([1, SEGMENT_SAMPLES],))
#: Any length that every layer's stride divides.
SHORT = Graph(
    "short",
    AnyLength,
    (torch.zeros(1, SEGMENT_SAMPLES // 2), torch.zeros(()), torch.zeros(N_REPRESENTATIVES)),
    ([1, -1], [], [N_REPRESENTATIVES]),
    ({1: 320 * torch.export.Dim("strides", min=150, max=2250)}, None, None),
)


def _zero_padded(segment: Samples) -> Samples:
    """The segment less the value of its padding, if it ends in any, so that the padding is zero.

    The group norm after the first filters removes any constant. For it OpenVINO adds up 143,999 values one by one in
    float32: an error of 4e-6 for equal small numbers, of nothing for zeros.
    """
    return segment - segment[-1] if segment[-1] == segment[-2] else segment


def _require(core: openvino.Core, precision: str) -> None:
    abilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision not in HINTS or HINTS[precision][1] not in abilities:
        raise PrecisionUnavailable(f"this CPU cannot compute in {precision}")


def _load(
    core: openvino.Core, encoder: EncoderSource, graph: Graph, options: Options, cache: Cache
) -> tuple[Blob, openvino.CompiledModel]:
    key = _key(core, encoder, graph)
    blob = cache.get_or_make(key, lambda: _compiled(core, encoder, graph, options))
    try:
        return blob, _imported(core, blob, options)
    except RuntimeError as error:
        log.warning("OpenVINO cannot import the compiled network from the cache, compiling it again: %s", error)
        cache.remove(key)
        blob = _compiled(core, encoder, graph, options)
        return blob, _imported(core, blob, options)


def _options(precision: str) -> Options:
    return {
        "INFERENCE_PRECISION_HINT": HINTS[precision][0],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        # Several workers, each of which pinned its threads, would all sit on the same cores.
        "ENABLE_CPU_PINNING": False,
    }


def _imported(core: openvino.Core, blob: Blob, options: Options) -> openvino.CompiledModel:
    return core.import_model(openvino.Tensor(blob, shared_memory=True), "CPU", options)


def _compiled(core: openvino.Core, encoder: EncoderSource, graph: Graph, options: Options) -> Blob:
    """The network compiled for this processor, as bytes. The precision is chosen when they are imported."""
    log.info("compiling the encoder for this CPU; the next start finds it compiled")
    compiled = core.compile_model(_converted(encoder, graph), "CPU", options)
    return np.frombuffer(compiled.export_model().getbuffer(), np.uint8)


def _converted(encoder: EncoderSource, graph: Graph) -> openvino.Model:
    network = graph.build(PooledMert(fold_weight_norm(encoder.load())))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # what torch says of its own internals while it exports
        exported = torch.export.export(network, graph.examples, strict=False, dynamic_shapes=graph.dynamic_shapes)
        return openvino.convert_model(exported, input=[openvino.PartialShape(shape) for shape in graph.shapes])


def _key(core: openvino.Core, encoder: EncoderSource, graph: Graph) -> str:
    """A hash of all that the compiled network depends on: weights, versions, processor."""
    libraries = [f"{name}-{version(name)}" for name in ("openvino", "torch", "transformers")]
    parts = [
        str(EXPORT_VERSION),
        graph.name,
        encoder.digest,
        *libraries,
        core.get_property("CPU", "FULL_DEVICE_NAME"),
        *_cpu(),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _cpu() -> list[str]:
    """The processor's instruction sets, which the compiled network uses; its architecture where they are not listed."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return [platform.machine()]
    return sorted(set(re.findall(r"^(?:flags|Features)\s*: (.*)$", text, re.MULTILINE)))
