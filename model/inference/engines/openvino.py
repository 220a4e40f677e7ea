"""OpenVINO: the engine of CPUs. The stock network, exported from PyTorch and compiled for the processor at hand.

The only module that imports openvino. The package that would report its use to its makers is kept from being imported.
"""

import hashlib
import logging
import platform
import re
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.domain import SEGMENT_SAMPLES, PrecisionUnavailable
from model.inference.engines.cache import Blob, Cache
from model.networks.mert import EncoderSource, PooledMert, fold_weight_norm

# OpenVINO looks for this package and does without it. Consent is asked for in dialogs only, but none is to be had here.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402

log = logging.getLogger(__name__)

#: To be raised when this module makes another network of the same weights.
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

    def embed(self, segments: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalised segments (n, 720000) to the time means of four hidden states (n, 4, hidden_size)."""
        return np.concatenate([self._pooled(segment) for segment in segments])

    def _pooled(self, segment: NDArray[np.float32]) -> NDArray[np.float32]:
        pooled: NDArray[np.float32] = self._request.infer([_at_zero(segment)[None]])[0].copy()
        return pooled


def _at_zero(segment: NDArray[np.float32]) -> NDArray[np.float32]:
    """The segment, moved so that the padding it ends in, if any, is zero instead of a small number.

    The group norm behind the first filters takes any constant out again. OpenVINO sums 143,999 values for it one after
    the other in float32, which goes wrong by 4e-6 for equal small numbers, and not at all for zeros.
    """
    return segment - segment[-1] if segment[-1] == segment[-2] else segment


def _require(core: openvino.Core, precision: str) -> None:
    abilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision not in HINTS or HINTS[precision][1] not in abilities:
        raise PrecisionUnavailable(f"this CPU cannot compute in {precision}")


def _load(
    core: openvino.Core, encoder: EncoderSource, options: Options, cache: Cache
) -> tuple[Blob, openvino.CompiledModel]:
    key = _key(core, encoder)
    blob = cache.obtain(key, lambda: _compiled(core, encoder, options))
    try:
        return blob, _imported(core, blob, options)
    except RuntimeError as error:
        log.warning("OpenVINO does not take back what it compiled, it is made again: %s", error)
        cache.forget(key)
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
    """The network for this processor, as bytes. It serves every precision: that is decided when it is read back."""
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
    """Names all that the compiled network depends on: weights, versions, processor."""
    libraries = [f"{name}-{version(name)}" for name in ("openvino", "torch", "transformers")]
    parts = [str(EXPORT_VERSION), encoder.digest, *libraries, core.get_property("CPU", "FULL_DEVICE_NAME"), *_cpu()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _cpu() -> list[str]:
    """What the processor can do, where the system tells: the compiled network is made of its instructions."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return [platform.machine()]
    return sorted(set(re.findall(r"^(?:flags|Features)\s*: (.*)$", text, re.MULTILINE)))
