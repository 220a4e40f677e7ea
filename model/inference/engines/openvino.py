"""OpenVINO: the engine of CPUs. The stock network, exported from PyTorch and compiled for the processor at hand.

The only module that imports openvino. Its telemetry is off: the package that sends it cannot be imported.
"""

import hashlib
import logging
import platform
import re
import sys
import warnings
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.audio.pcm import Samples
from model.domain import SEGMENT_SAMPLES, PrecisionUnavailable
from model.inference.engines.cache import Blob, Cache
from model.networks.mert import EncoderSource, PooledMert, fold_weight_norm

# OpenVINO sends no telemetry where this package is missing. Its own switch is a dialog, which a service cannot answer.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402

log = logging.getLogger(__name__)

#: Increase when this module exports another network from the same weights.
EXPORT_VERSION = 2
#: What OpenVINO calls a precision, and what it calls the ability to compute in it.
HINTS = {"fp32": ("f32", "FP32"), "bf16": ("bf16", "BF16")}
MERT_SEGMENTS = (1, SEGMENT_SAMPLES)


Options = dict[str, object]


class OpenVinoEngine:
    """MERT on the CPU, one segment at a time, so that a segment's numbers do not depend on its neighbours.

    Takes as many threads as torch would. A network that was compiled once is read back in a second.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, encoder: EncoderSource, *, precision: str = "fp32", cache_dir: Path) -> None:
        self.precision = precision
        core = openvino.Core()
        _require(core, precision)
        # The compiled network reads its weights out of the blob, and does not keep it alive.
        self._blob, network = _load(core, encoder, _options(precision), Cache(cache_dir))
        self._request = network.create_infer_request()

    def embed(self, segments: Iterable[Samples]) -> NDArray[np.float32]:
        """Segments to the time means of four hidden states (n, 4, hidden_size).

        segments : normalised, shape = (720000,) each; zeros follow a shorter one
        """
        return np.concatenate([self._pooled(segment) for segment in segments])

    def _pooled(self, segment: Samples) -> NDArray[np.float32]:
        padded = np.pad(_zero_padded(segment), (0, SEGMENT_SAMPLES - len(segment)))
        pooled: NDArray[np.float32] = self._request.infer([padded[None]])[0].copy()
        return pooled


def _zero_padded(segment: Samples) -> Samples:
    """The segment less the value of its padding, if it is full and ends in any, so that the padding is zero.

    The group norm after the first filters removes any constant. For it OpenVINO adds up 143,999 values one by one in
    float32: an error of 4e-6 for equal small numbers, of nothing for zeros.
    """
    return segment - segment[-1] if len(segment) == SEGMENT_SAMPLES and segment[-1] == segment[-2] else segment


def _require(core: openvino.Core, precision: str) -> None:
    abilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision not in HINTS or HINTS[precision][1] not in abilities:
        raise PrecisionUnavailable(f"this CPU cannot compute in {precision}")


def _load(
    core: openvino.Core, encoder: EncoderSource, options: Options, cache: Cache
) -> tuple[Blob, openvino.CompiledModel]:
    key = _key(core, encoder)
    blob = cache.get_or_make(key, lambda: _compiled(core, encoder, options))
    try:
        return blob, _imported(core, blob, options)
    except RuntimeError as error:
        log.warning("OpenVINO cannot import the compiled network from the cache, compiling it again: %s", error)
        cache.remove(key)
        blob = _compiled(core, encoder, options)
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


def _compiled(core: openvino.Core, encoder: EncoderSource, options: Options) -> Blob:
    """The network compiled for this processor, as bytes. The precision is chosen when they are imported."""
    log.info("compiling the encoder for this CPU; the next start finds it compiled")
    compiled = core.compile_model(_converted(encoder), "CPU", options)
    return np.frombuffer(compiled.export_model().getbuffer(), np.uint8)


def _converted(encoder: EncoderSource) -> openvino.Model:
    network = PooledMert(fold_weight_norm(encoder.load()))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # what torch says of its own internals while it exports
        exported = torch.export.export(network, (torch.zeros(MERT_SEGMENTS),), strict=False)
        return openvino.convert_model(exported, input=[MERT_SEGMENTS])


def _key(core: openvino.Core, encoder: EncoderSource) -> str:
    """A hash of all that the compiled network depends on: weights, versions, processor."""
    libraries = [f"{name}-{version(name)}" for name in ("openvino", "torch", "transformers")]
    parts = [str(EXPORT_VERSION), encoder.digest, *libraries, core.get_property("CPU", "FULL_DEVICE_NAME"), *_cpu()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _cpu() -> list[str]:
    """The processor's instruction sets, which the compiled network uses; its architecture where they are not listed."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return [platform.machine()]
    return sorted(set(re.findall(r"^(?:flags|Features)\s*: (.*)$", text, re.MULTILINE)))
