"""What the numbers must be: the whole pipeline again, plain and slow, sharing no code with `model`.

Written from the formulas. Float64 where the reference implementation's own rounding does not matter, one segment at a
time, all thirteen hidden states held.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch.nn import functional
from transformers import HubertConfig, HubertModel

Array = NDArray[np.floating]

NOT_ARCHITECTURE = ("model_type", "auto_map", "architectures", "torch_dtype", "transformers_version")


def scores(track: Array, rate_hz: int, weights_dir: Path, dtype: torch.dtype) -> dict[str, float]:
    """Scores of a track (n_frames, n_channels), not rounded, with weights in the layout that `apex` writes.

    dtype : what MERT computes in
    """
    return apply_head(load_head(weights_dir), mean_embedding(track, rate_hz, weights_dir, dtype))


def mean_embedding(track: Array, rate_hz: int, weights_dir: Path, dtype: torch.dtype) -> torch.Tensor:
    """(dim,) float32"""
    mert = load_mert(weights_dir / "mert").to(dtype)
    signal = resample(track.mean(axis=1), rate_hz, 24_000)
    return torch.stack([embedding(mert, segment) for segment in segments(signal)]).mean(dim=0)


def load_head(weights_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(weights_dir / "apex" / "apex.safetensors")


def resample(signal: Array, old_hz: int, new_hz: int) -> Array:
    """Every output sample as a windowed sinc over the input around it; exact rational time, float64."""
    if old_hz == new_hz:
        return signal
    old, new = old_hz // math.gcd(old_hz, new_hz), new_hz // math.gcd(old_hz, new_hz)
    base = min(old, new) * 0.99
    width = math.ceil(6 * old / base)
    n_out = int(torch.ceil(torch.tensor(new * len(signal) / old, dtype=torch.float32)))
    out = np.arange(min(n_out, (len(signal) // old + 1) * new), dtype=np.int64)
    padded = np.pad(signal.astype(np.float64), (width + 1, width + 1 + old))
    total = np.zeros(len(out))
    for offset in range(-width - 1, width + 2):
        source = out * old // new + offset
        t = np.clip((source * new - out * old) / (old * new) * base, -6, 6)
        total += padded[source + width + 1] * np.sinc(t) * np.cos(np.pi * t / 12) ** 2 * base / old
    return total.astype(np.float32)


def segments(signal: Array) -> list[Array]:
    padded = np.pad(signal, (0, -len(signal) % 720_000))
    return list(padded.reshape(-1, 720_000))


def normalise(segment: Array) -> Array:
    exact = segment.astype(np.float64)
    normalised: Array = (exact - exact.mean()) / math.sqrt(exact.var() + 1e-7)
    return normalised


def load_mert(directory: Path) -> HubertModel:
    """The stock network; torch itself takes the old names of the weight norm."""
    fields = json.loads((directory / "config.json").read_text())
    model = HubertModel(HubertConfig(**{name: value for name, value in fields.items() if name not in NOT_ARCHITECTURE}))
    model.load_state_dict(load_file(directory / "model.safetensors"), strict=True)
    return model.eval()


def embedding(mert: HubertModel, segment: Array) -> torch.Tensor:
    """(dim,) float32: the four time means, through the convolution that the authors draw from seed 42."""
    samples = torch.from_numpy(normalise(segment)).to(mert.dtype)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        states = mert(samples[None], output_hidden_states=True).hidden_states
        torch.manual_seed(42)
        mix = torch.nn.Conv1d(4, 1, kernel_size=1)
        mixed: torch.Tensor = mix(torch.stack([states[i].mean(dim=1)[0] for i in (2, 5, 8, -1)]).float()[None])[0, 0]
    return mixed


def apply_head(tensors: dict[str, torch.Tensor], x: torch.Tensor) -> dict[str, float]:
    """The head as functions of its tensors, for one embedding (dim,)."""
    shared = x[None]
    for block in _numbered(tensors, "shared"):
        shared = _block(tensors, block, shared)
    tasks = [name.split(".")[0] for name in tensors if name.endswith(".branch.2.weight")]
    return {task.removeprefix("branch_"): _branch(tensors, task, shared) for task in tasks}


def _branch(tensors: dict[str, torch.Tensor], task: str, shared: torch.Tensor) -> float:
    y = _block(tensors, f"{task}.branch.1", _block(tensors, f"{task}.branch.0", shared))
    z = functional.linear(y, tensors[f"{task}.branch.2.weight"], tensors[f"{task}.branch.2.bias"])
    scale, shift = (100, 0) if task in ("branch_score_streams", "branch_score_likes") else (4, 1)
    return float(torch.sigmoid(z)) * scale + shift


def _block(tensors: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    x = functional.linear(x, tensors[f"{name}.block.0.weight"], tensors[f"{name}.block.0.bias"])
    mean, variance, weight, bias = (
        tensors[f"{name}.block.1.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
    )
    return functional.gelu(functional.batch_norm(x, mean, variance, weight, bias))


def _numbered(tensors: dict[str, torch.Tensor], prefix: str) -> list[str]:
    return [f"{prefix}.{i}" for i in range(9) if f"{prefix}.{i}.block.0.weight" in tensors]
