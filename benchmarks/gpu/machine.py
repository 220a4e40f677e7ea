"""What the figures were measured on, and the weights and tracks that the other parts share."""

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import soundfile
import torch

from benchmarks.gpu.part import Row, Setting, Task
from model.audio.synthesizer import synthesise
from model.networks.head_formats import HEAD_FILE, load_head, save_head
from model.processors import usable_cores
from model.weights.directory import convert, write_stand_in

LIBRARIES = ("torch", "transformers", "triton", "numpy", "av", "redis", "rq", "fastapi", "litserve", "ray")
RATE_HZ = 44_100
#: Variables that change what is measured.
VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING", "CC")
#: How far the last layer of a flat head is scaled down, so that no precision moves a score beyond its tolerance.
FLATNESS = 1 / 64


def tasks(setting: Setting) -> Iterator[Task]:
    yield Task("host", lambda: [{"what": what, "is": found} for what, found in host().items()])
    yield Task("device", lambda: [{"what": what, "is": found} for what, found in device().items()], needs_device=True)
    yield Task("driver", driver, needs_device=True)
    yield Task("weights", lambda: weights(setting))
    yield Task("track", lambda: track(setting))


def host() -> dict[str, object]:
    cpu = [line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "processor": cpu[0] if cpu else platform.processor(),
        "cores": usable_cores(),
        "kernel": platform.release(),
        "load at the start": os.getloadavg()[0],
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
        "C compiler, which Triton needs": next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), "none"),
        "variables": ", ".join(f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ) or "none",
    }


def device() -> dict[str, object]:
    facts = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info()
    return {
        "device": facts.name,  # a slice of a card, where it is cut by MIG, says so in its name
        "devices": torch.cuda.device_count(),
        "capability": f"{facts.major}.{facts.minor}",
        "multiprocessors": facts.multi_processor_count,
        "memory, MB": total / 1e6,
        "of it free": free / 1e6,
        "CUDA of torch": torch.version.cuda,
        "cuDNN": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "architectures of torch": ", ".join(torch.cuda.get_arch_list()),
        "bf16": torch.cuda.is_bf16_supported(),
    }


def driver() -> Iterator[Row]:
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    yield {"what": "driver", "is": pynvml.nvmlSystemGetDriverVersion()}
    yield {"what": "power limit, W", "is": pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000}
    yield {"what": "highest SM clock, MHz", "is": pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM)}


def weights(setting: Setting) -> Iterator[Row]:
    """Stand-in weights, and the same with a flat head."""
    write_stand_in(setting.weights, size="full" if setting.on_device else "tiny")
    loaded = load_head(setting.weights / "apex")
    for name, parameter in loaded.head.named_parameters():
        if name.startswith("branch_") and parameter.shape[0] == 1:
            parameter.data *= FLATNESS
    flat = setting.folder / HEAD_FILE
    save_head(flat, loaded.head, loaded.layer_mix, loaded.info)
    convert(setting.weights, setting.flat_weights, head_path=flat)
    yield {"what": "weights, MB", "is": sum(path.stat().st_size for path in setting.weights.rglob("*")) / 1e6}


def track(setting: Setting) -> Iterator[Row]:
    """The MP3 file."""
    piece = synthesise(duration_s=30 if setting.on_device else 2, sample_rate_hz=RATE_HZ)
    music = np.tile(piece, (setting.segments_a_track, 1))
    soundfile.write(setting.track, music, RATE_HZ, format="MP3")
    yield {"what": "track, s", "is": len(music) / RATE_HZ}
    yield {"what": "track, bytes", "is": setting.track.stat().st_size}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not there"
