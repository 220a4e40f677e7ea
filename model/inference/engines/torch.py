"""PyTorch: the engine of CUDA devices, the fallback of CPUs, and in fp32 the reference for all others."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.audio.pcm import Samples
from model.domain import SEGMENT_SAMPLES, DeviceLost, DeviceOutOfMemory, PrecisionUnavailable
from model.inference.engines.batching import LENGTHS, batches, stacked
from model.networks.mert import EncoderSource, PooledMert, fold_weight_norm

#: Type of the network in each precision. In all of them float32 is kept for the waveform's normalisation, the time
#: means and the head, and PyTorch itself keeps it for sums within a layer.
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: The precision in which products of float32 may use TF32 internally, whose mantissa has ten bits.
TF32 = "tf32"

#: Numbers of segments in one forward pass, per kind of device. A fixed set, so that each is compiled once.
#: On a CPU one: more gain under a tenth, and alone a segment's numbers cannot depend on its neighbours.
BATCHES = {"cuda": (16, 8, 4, 2, 1), "cpu": (1,)}

#: Largest relative error of a product of float32 matrices that counts as exact: a few roundings.
EXACT = 1e-6


class TorchEngine:
    """MERT on one device. A batch too large for the device's memory is halved until it fits.

    ``compiled`` runs CUDA graphs that are compiled once per batch size, which takes minutes at the start of a process.
    """

    name = "torch"

    def __init__(
        self, encoder: EncoderSource, *, device: str = "cpu", precision: str = "fp32", compiled: bool = False
    ) -> None:
        self.device, self.precision = device, precision
        kind = torch.device(device).type
        _require(precision, device)
        self.batches = BATCHES[kind]
        network = PooledMert(fold_weight_norm(encoder.load())).to(device, DTYPES[precision])
        self._network: Callable[[torch.Tensor, int], torch.Tensor] = compiled_graphs(network) if compiled else network
        self._fast_products = kind == "cpu" and use_fast_products()

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
                return self._states(torch.from_numpy(segments)).numpy()
        except DeviceOutOfMemory:
            if len(segments) == 1:
                raise
            return None

    def _states(self, segments: torch.Tensor) -> torch.Tensor:
        if self.device == "cpu":
            _set_cpu_products(fast=self._fast_products)
        else:
            set_cuda_products(tf32=self.precision == TF32)
            segments = segments.pin_memory()
        # Converted on the device: `to` with a type converts on the CPU, into memory that is not pinned.
        samples = segments.to(self.device, non_blocking=True).to(DTYPES[self.precision])
        return self._network(samples, SEGMENT_SAMPLES - samples.shape[1]).float().cpu()


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
    if device != "cpu" and precision in ("bf16", "tf32") and torch.cuda.get_device_capability(device) < (8, 0):
        raise PrecisionUnavailable(f"this GPU cannot compute in {precision}; GPUs since 2020 can")


def compiled_graphs(network: PooledMert) -> Any:
    """Kernels fused by the compiler, launched together as one CUDA graph per batch size and length of sound."""
    torch._dynamo.config.recompile_limit = len(BATCHES["cuda"]) * len(LENGTHS)
    return torch.compile(network, mode="reduce-overhead", fullgraph=True, dynamic=False)


def set_cuda_products(*, tf32: bool) -> None:
    """Whether products and convolutions of float32 on CUDA may use TF32. For the whole process: set before each use.

    By PyTorch's older switches, because all of its parts read them alike. `torch.backends.fp32_precision` does not
    reach cuDNN's convolutions up to 2.11, of products only the first value holds in 2.13, and the compiler refuses it.
    """
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32


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
