"""MERT on a CUDA device: kernels for its layout, recorded once for each shape and launched together."""

from collections.abc import Callable
from typing import Any

import torch

from model.networks.mert import EncoderSource, PooledMert, fold_weight_norm
from model.networks.time_major import SpectralPositions, TimeMajorFrontEnd

#: Type of the network in each precision.
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: The precision in which products of float32 may use TF32 internally, whose mantissa has ten bits.
TF32 = "tf32"
#: What attention multiplies where that is not the network's type. Ten bits of mantissa are what TF32 has, and CUDA's
#: kernels for such attention are nine times as fast as those for float32.
ATTENTION_DTYPES = {TF32: torch.float16}

#: Runs of a network before it is recorded: in the first, libraries choose kernels and allocate.
N_RUNS_BEFORE = 2


class CudaNetwork:
    """The encoder on one device: from samples in the host's memory to states there.

    ``compiled`` fuses kernels by PyTorch's compiler, which takes minutes for each shape.
    """

    def __init__(self, encoder: EncoderSource, device: str, precision: str, *, compiled: bool = False) -> None:
        self._device, self._precision = torch.device(device), precision
        network = time_major(encoder, device, precision)
        self._graphs = GraphedNetwork(compile_kernels(network) if compiled else network)

    def __call__(self, segments: torch.Tensor, n_padding: int) -> torch.Tensor:
        """Segments (n, n_samples) to float32 states (n, 4, hidden_size), as `PooledMert`."""
        set_cuda_products(tf32=self._precision == TF32)
        with torch.cuda.device(self._device):
            # Converted on the device: `to` with a type converts on the CPU, into memory that is not pinned.
            samples = segments.pin_memory().to(self._device, non_blocking=True).to(DTYPES[self._precision])
            return fetched(self._graphs(samples, n_padding))


def time_major(encoder: EncoderSource, device: str, precision: str) -> PooledMert:
    """The encoder on a device, with the parts that are fast there."""
    mert = fold_weight_norm(encoder.load())
    positions = SpectralPositions(mert.encoder.pos_conv_embed).to(device)
    network = PooledMert(mert, attention_dtype=ATTENTION_DTYPES.get(precision)).to(device, DTYPES[precision])
    network.front_end = TimeMajorFrontEnd(mert.feature_extractor.conv_layers)
    mert.encoder.pos_conv_embed = positions
    return network


def compile_kernels(network: PooledMert) -> Callable[..., torch.Tensor]:
    """The network with fused kernels, compiled when a shape comes first."""
    torch._dynamo.config.recompile_limit = 1000  # each shape is compiled once; the default gives up after eight
    compiled: Callable[..., torch.Tensor] = torch.compile(network, fullgraph=True, dynamic=False)
    return compiled


class GraphedNetwork:
    """A network whose kernels are launched as one CUDA graph, recorded when a shape comes first.

    From Python the launches of one batch take longer than the device takes for a small one. All graphs share their
    memory, so what a call returns holds until the next call.
    """

    def __init__(self, network: Callable[..., torch.Tensor]) -> None:
        self._network = network
        self._recordings: dict[tuple[int, ...], _Recording] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, samples: torch.Tensor, n_padding: int = 0) -> torch.Tensor:
        """As the network, on the current device."""
        shape = (*samples.shape, n_padding)
        if shape not in self._recordings:
            self._recordings[shape] = _Recording(self._network, samples, n_padding, self._pool)
        return self._recordings[shape].replay(samples)


class _Recording:
    """The kernels for one shape, and the memory that they read and write."""

    def __init__(self, network: Callable[..., torch.Tensor], samples: torch.Tensor, n_padding: int, pool: Any) -> None:
        self._samples = samples.clone()
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(N_RUNS_BEFORE):
                network(self._samples, n_padding)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            self._states: torch.Tensor = network(self._samples, n_padding)
        torch.cuda.empty_cache()  # what the runs before took is as much again, and no other run needs it

    def replay(self, samples: torch.Tensor) -> torch.Tensor:
        self._samples.copy_(samples)
        self._graph.replay()
        return self._states


def set_cuda_products(*, tf32: bool) -> None:
    """Whether products and convolutions of float32 on CUDA may use TF32. For the whole process: set before each use.

    By PyTorch's older switches, because all of its parts read them alike. `torch.backends.fp32_precision` does not
    reach cuDNN's convolutions up to 2.11, of products only the first value holds in 2.13, and the compiler refuses it.
    """
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32


def fetched(states: torch.Tensor) -> torch.Tensor:
    """A copy in the host's memory. Waits without work: `Tensor.cpu` keeps a core busy until the device is done."""
    copy = torch.empty(states.shape, dtype=states.dtype, pin_memory=True)
    copy.copy_(states, non_blocking=True)
    done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    done.record()
    done.synchronize()
    return copy
