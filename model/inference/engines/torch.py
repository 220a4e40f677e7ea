"""PyTorch: the engine of CUDA devices, the fallback of CPUs, and in fp32 the reference for all others."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from model.audio.pcm import Samples
from model.domain import SEGMENT_SAMPLES, DeviceLost, DeviceOutOfMemory, PrecisionUnavailable
from model.inference.engines.batching import batches, stacked
from model.inference.engines.cuda import DTYPES, TF32, CudaNetwork
from model.networks.mert import EncoderSource, PooledMert, fold_weight_norm

#: Numbers of segments in one forward pass, per kind of device. A fixed set, so that each is compiled once.
#: On a CPU one: more gain under a tenth, and alone a segment's numbers cannot depend on its neighbours.
BATCHES = {"cuda": (16, 12, 8, 6, 4, 3, 2, 1), "cpu": (1,)}

#: Largest relative error of a product of float32 matrices that counts as exact: a few roundings.
EXACT = 1e-6


class TorchEngine:
    """MERT on one device. A batch too large for the device's memory is cut until it fits.

    In all precisions float32 is kept for the waveform's normalisation, the time means and the head, and PyTorch itself
    keeps it for sums within a layer. ``compiled`` is for CUDA; see `CudaNetwork`.
    """

    name = "torch"

    def __init__(
        self, encoder: EncoderSource, *, device: str = "cpu", precision: str = "fp32", compiled: bool = False
    ) -> None:
        self.device, self.precision = device, precision
        kind = torch.device(device).type
        _require(precision, device)
        self.batches = BATCHES[kind]
        self._network: Callable[[torch.Tensor, int], torch.Tensor] = (
            CpuNetwork(encoder, precision)
            if kind == "cpu"
            else CudaNetwork(encoder, device, precision, compiled=compiled)
        )

    def embed(self, segments: Iterable[Samples]) -> NDArray[np.float32]:
        """Segments to the time means of four hidden states (n, 4, hidden_size).

        segments : normalised, shape = (720000,) each; zeros follow a shorter one
        Raises DeviceOutOfMemory where one segment does not fit, DeviceLost where the device has failed.
        """
        waiting, sizes = dict(enumerate(segments)), self.batches
        found: dict[int, NDArray[np.float32]] = {}
        while waiting:
            for batch in batches({index: len(segment) for index, segment in waiting.items()}, sizes):
                if (states := self._attempt(stacked([waiting[index] for index in batch]))) is None:
                    sizes = tuple(size for size in sizes if size < len(batch))
                    torch.cuda.empty_cache()
                    break
                found.update(zip(batch, states, strict=True))
                for index in batch:
                    del waiting[index]
        return np.stack([found[index] for index in sorted(found)])

    def _attempt(self, segments: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """The states, or None where there is not enough memory for so many segments."""
        try:
            with device_errors(self.device, "one segment"), torch.inference_mode():
                return self._network(torch.from_numpy(segments), SEGMENT_SAMPLES - segments.shape[1]).numpy()
        except DeviceOutOfMemory:
            if len(segments) == 1:
                raise
            return None


class CpuNetwork:
    """The encoder on the CPU, in fp32 or bf16."""

    def __init__(self, encoder: EncoderSource, precision: str) -> None:
        self._dtype = DTYPES[precision]
        self._network = PooledMert(fold_weight_norm(encoder.load())).to(self._dtype)
        self._fast_products = use_fast_products()

    def __call__(self, segments: torch.Tensor, n_padding: int) -> torch.Tensor:
        """Segments (n, n_samples) to float32 states (n, 4, hidden_size), as `PooledMert`."""
        _set_cpu_products(fast=self._fast_products)
        states: torch.Tensor = self._network(segments.to(self._dtype), n_padding)
        return states.float()


@contextmanager
def device_errors(device: str, needed_for: str) -> Iterator[None]:
    """Raise DeviceOutOfMemory where memory lacks, and says for what, DeviceLost where the device has failed."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceOutOfMemory(f"{device} has not enough memory left for {needed_for}") from error
    except RuntimeError as error:
        if device == "cpu":
            raise
        # After any error of CUDA but lack of memory, its context may be unusable.
        raise DeviceLost(f"{device} failed: {error}") from error


def _require(precision: str, device: str) -> None:
    if device == "cpu" and precision not in ("fp32", "bf16"):
        raise PrecisionUnavailable(f"PyTorch computes in fp32 or bf16 on a CPU, not in {precision}")
    if device != "cpu" and precision in ("bf16", TF32) and torch.cuda.get_device_capability(device) < (8, 0):
        raise PrecisionUnavailable(f"this GPU cannot compute in {precision}; GPUs since 2020 can")


def use_fast_products() -> bool:
    """Use oneDNN for matrix products on the CPU if a test product shows that it keeps float32 accuracy.

    On AMD it is the quicker library. The setting also permits bfloat16 internally, which some Intel processors then
    use: there it is reset. Returns whether oneDNN is used.
    """
    left, right = (torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in ((256, 768), (768, 768)))
    exact = left.double() @ right.double()
    _set_cpu_products(fast=True)
    error = (left @ right - exact).norm() / exact.norm()
    _set_cpu_products(fast=bool(error <= EXACT))
    return bool(error <= EXACT)


def _set_cpu_products(*, fast: bool) -> None:
    torch.backends.mkldnn.matmul.fp32_precision = "bf16" if fast else "ieee"  # type: ignore[attr-defined]
