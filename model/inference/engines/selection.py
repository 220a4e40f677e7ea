"""The choice of an engine: by the device, by name, or by what is installed."""

import logging
import os
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.audio.pcm import Samples
from model.domain import DeviceError
from model.inference.device import resolve_device
from model.inference.engines.torch import TorchEngine, device_errors
from model.networks.mert import EncoderSource

log = logging.getLogger(__name__)


class Engine(Protocol):
    """A loaded encoder on its device. Not for several threads at once."""

    name: str
    device: str
    precision: str

    def embed(self, segments: Iterable[Samples]) -> NDArray[np.float32]:
        """Segments to the time means of four hidden states (n, 4, hidden_size).

        segments : normalised, shape = (720000,) each; zeros follow a shorter one
        """
        ...


def open_engine(
    encoder: EncoderSource,
    *,
    device: str = "auto",
    engine: str = "auto",
    precision: str = "fp32",
    compiled: bool = False,
    cache_dir: Path | None = None,
) -> Engine:
    """The engine for a device: "cpu", "cuda", "cuda:1", or "auto" for CUDA where there is any, else the CPU.

    engine : "torch", "openvino", or "auto" for OpenVINO on a CPU where it is installed, else PyTorch
    compiled : whether PyTorch compiles graphs for CUDA
    cache_dir : where OpenVINO's compiled networks are kept; `default_cache_dir()` if not given
    Raises DeviceError for a device or an engine that is not there, PrecisionUnavailable for a precision that is not,
    DeviceOutOfMemory for a device with too little memory left, DeviceLost for one that fails.
    """
    device = resolve_device(device)
    kind = device.partition(":")[0]
    if _prefers_openvino(engine, kind):
        from model.inference.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(encoder, precision=precision, cache_dir=cache_dir or default_cache_dir())
    with device_errors(device, "the network"):
        return TorchEngine(encoder, device=device, precision=precision, compiled=compiled and kind == "cuda")


def default_cache_dir() -> Path:
    """The folder for compiled networks in this user's cache directory."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "apex" / "engines"


def _prefers_openvino(engine: str, kind: str) -> bool:
    if engine == "openvino" and (kind != "cpu" or not _has_openvino()):
        raise DeviceError(f"the engine openvino was asked for, but it is not installed or does not run on {kind}")
    return engine == "openvino" or (engine == "auto" and kind == "cpu" and _has_openvino())


@cache
def _has_openvino() -> bool:
    try:
        import_module("model.inference.engines.openvino")
    except ImportError as error:
        log.warning("running on PyTorch, which is slower on a CPU: OpenVINO cannot be imported: %s", error)
        return False
    return True
