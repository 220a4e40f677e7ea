"""What one writes first: the reference's loop over segments, on stock parts, in float32.

Shares no code with `model` but the loading of weights, so that both sides compute with the same numbers.
"""

import math
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import nn
from torch.nn import functional

from model.networks.head_formats import load_head
from model.networks.mert import load_mert

SEGMENT_SAMPLES = 720_000
HIDDEN_STATES = [2, 5, 8, 12]


class Loop(nn.Module):
    """The reference's way from a file to scores. ``attention`` is "sdpa" or "eager", as transformers calls them."""

    def __init__(self, weights_dir: Path, attention: str = "sdpa", device: str = "cpu") -> None:
        super().__init__()
        self.device = device
        self.mert = load_mert(weights_dir / "mert").to(device)
        self.mert.set_attn_implementation(attention)
        self.head = load_head(weights_dir / "apex")

    def scores(self, path: Path) -> dict[str, float]:
        """The scores of a file, its segments one after the other."""
        embeddings = [self.embedding(segment) for segment in split(front_end(path))]
        return self.scores_of(torch.stack(embeddings).mean(dim=0))

    def embedding(self, segment: torch.Tensor) -> torch.Tensor:
        """The embedding of a segment: four of thirteen hidden states, their means over time, mixed."""
        mean, variance = segment.mean(), segment.var(unbiased=False)
        samples = (segment - mean) / torch.sqrt(variance + 1e-7)
        with torch.inference_mode():
            states = self.mert(samples[None].to(self.device), output_hidden_states=True).hidden_states
            pooled = torch.stack([states[index].mean(dim=1) for index in HIDDEN_STATES], dim=1).cpu()
        return torch.from_numpy(np.asarray(self.head.layer_mix(pooled.numpy()), np.float32))[0]

    def scores_of(self, embedding: torch.Tensor) -> dict[str, float]:
        with torch.inference_mode():
            return {name: value.item() for name, value in self.head.head(embedding[None]).items()}


def front_end(path: Path) -> torch.Tensor:
    """The whole track, mono at 24 kHz."""
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return resample(torch.from_numpy(samples.mean(axis=1)), rate_hz)


def resample(signal: torch.Tensor, old: int, new: int = 24_000) -> torch.Tensor:
    """torchaudio's formula at its defaults: every phase of a windowed sinc as one channel of a strided convolution."""
    divisor = math.gcd(old, new)
    old, new = old // divisor, new // divisor
    if old == new:
        return signal
    base = min(old, new) * 0.99
    width = math.ceil(6 * old / base)
    position = torch.arange(-width, width + old)[None] / old - torch.arange(new)[:, None] / new
    t = (position * base).clamp(-6, 6)
    kernel = torch.sinc(t) * torch.cos(t * math.pi / 12) ** 2 * base / old
    padded = functional.pad(signal[None, None], (width, width + old))
    phases = functional.conv1d(padded, kernel[:, None], stride=old)[0]
    return phases.T.reshape(-1)[: math.ceil(new * len(signal) / old)]


def split(signal: torch.Tensor) -> list[torch.Tensor]:
    return list(functional.pad(signal, (0, -len(signal) % SEGMENT_SAMPLES)).view(-1, SEGMENT_SAMPLES))
