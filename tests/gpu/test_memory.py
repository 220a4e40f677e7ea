"""A device that is full: real refusals by its allocator, which is held to a part of the memory."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from model.audio.pcm import Samples
from model.domain import DeviceOutOfMemory
from model.inference.engines.torch import TorchEngine
from model.networks.mert import EncoderSource
from tests.gpu.conftest import DEVICE
from tests.model.inference.signals import noise, relative_error

pytestmark = pytest.mark.gpu

N_SEGMENTS = 16


def peak_bytes(encoder: EncoderSource, batch: Samples) -> int:
    """What an engine needs at the least while it is made and embeds its first batch."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    TorchEngine(encoder, device=DEVICE).embed(batch)
    return torch.cuda.max_memory_allocated()


@contextmanager
def at_most(n_bytes: int) -> Iterator[None]:
    """This process may hold so much of the device's memory."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(n_bytes / torch.cuda.get_device_properties(0).total_memory)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_batch_that_does_not_fit_is_cut_and_gives_the_same(
    encoder: EncoderSource, on_cpu: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = noise(N_SEGMENTS)
    limit = (peak_bytes(encoder, batch[:1]) + peak_bytes(encoder, batch)) // 2
    engine, sizes = TorchEngine(encoder, device=DEVICE), list[tuple[int, bool]]()
    attempt = engine._attempt

    def noting(segments: Samples) -> Samples | None:
        states = attempt(segments)
        sizes.append((len(segments), states is not None))
        return states

    monkeypatch.setattr(engine, "_attempt", noting)
    with at_most(limit):
        found = engine.embed(batch)
    assert sizes[0] == (N_SEGMENTS, False)
    assert sum(size for size, fitted in sizes if fitted) == N_SEGMENTS
    assert relative_error(found, on_cpu.embed(batch)) < 1e-5


def test_no_memory_for_one_segment_is_said_and_passes(encoder: EncoderSource, on_cpu: TorchEngine) -> None:
    engine = TorchEngine(encoder, device=DEVICE)
    gc.collect()
    torch.cuda.empty_cache()
    with at_most(torch.cuda.memory_reserved()), pytest.raises(DeviceOutOfMemory, match="memory left for one segment"):
        engine.embed(noise(1))
    assert relative_error(engine.embed(noise(1)), on_cpu.embed(noise(1))) < 1e-5
