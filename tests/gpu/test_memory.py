"""A device that is full: real refusals by its allocator, which is held to a part of the memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from model.domain import DeviceOutOfMemory
from model.inference.engines.torch import TorchEngine
from tests.model.inference.signals import Samples, noise, relative_error

pytestmark = pytest.mark.gpu

N_SEGMENTS = 16


def peak_bytes(engine: TorchEngine, batch: Samples) -> int:
    """What the allocator holds at the most while a batch is embedded, the weights included."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    engine.embed(batch)
    return torch.cuda.max_memory_reserved()


@contextmanager
def at_most(n_bytes: int) -> Iterator[None]:
    """This process may hold so much of the device's memory."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(n_bytes / torch.cuda.get_device_properties(0).total_memory)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_batch_that_does_not_fit_is_halved_and_gives_the_same(
    on_cuda: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = noise(N_SEGMENTS)
    expected = on_cuda.embed(batch)
    limit = (peak_bytes(on_cuda, batch[:1]) + peak_bytes(on_cuda, batch)) // 2
    attempt, sizes = on_cuda._attempt, list[tuple[int, bool]]()

    def noting(segments: Samples) -> Samples | None:
        states = attempt(segments)
        sizes.append((len(segments), states is not None))
        return states

    monkeypatch.setattr(on_cuda, "_attempt", noting)
    with at_most(limit):
        found = on_cuda.embed(batch)
    assert sizes[0] == (N_SEGMENTS, False)
    assert sum(size for size, fitted in sizes if fitted) == N_SEGMENTS
    assert relative_error(found, expected) < 1e-5


def test_no_memory_for_one_segment_is_said_and_passes(on_cuda: TorchEngine) -> None:
    expected = on_cuda.embed(noise(1))
    torch.cuda.empty_cache()
    with at_most(torch.cuda.memory_reserved()), pytest.raises(DeviceOutOfMemory, match="memory left for one segment"):
        on_cuda.embed(noise(1))
    assert relative_error(on_cuda.embed(noise(1)), expected) < 1e-6
