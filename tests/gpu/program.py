"""`python -m tests.gpu.program lost|share WEIGHTS [FILE]`: what needs a process, and a CUDA context, of its own."""

import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from model.domain import DeviceLost
from model.inference.engines.torch import TorchEngine
from model.networks.mert import EncoderSource
from tests.gpu.conftest import DEVICE
from tests.model.inference.signals import noise


def lost(engine: TorchEngine) -> None:
    """Break this process's context as a faulty kernel does; print what the engine says of the next batch."""
    engine.embed(noise(1))
    with suppress(RuntimeError):
        torch.zeros(2, device=DEVICE)[torch.tensor([5], device=DEVICE)].cpu()
    try:
        engine.embed(noise(1))
    except DeviceLost:
        sys.stdout.write("lost\n")


def share(engine: TorchEngine, path: Path) -> None:
    """When told to, embed five batches, and leave the last in a file."""
    engine.embed(noise(1))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for _ in range(5):
        states = engine.embed(noise(4))
    np.save(path, states)


if __name__ == "__main__":
    loaded = TorchEngine(EncoderSource(Path(sys.argv[2]) / "mert", ""), device=DEVICE)
    if sys.argv[1] == "lost":
        lost(loaded)
    else:
        share(loaded, Path(sys.argv[3]))
