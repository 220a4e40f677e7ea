"""Parts of MERT as CUDA devices compute them fastest, equal to those of transformers up to rounding.

Frames of all channels lie together in memory, so that filters become products of large matrices; transformers' order,
channels of all frames, makes cuDNN turn every activation round twice. Knows nothing of scores and of devices.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import conv2d, gelu, pad


class TimeMajorFrontEnd(nn.Module):
    """As `model.networks.mert.FrontEnd`, from the same layers."""

    def __init__(self, layers: Iterable[Any]) -> None:
        super().__init__()
        first, *others = layers
        self.first = FoldedNorm(first)
        self.strides = [layer.conv.stride[0] for layer in others]
        self.weights = nn.ParameterList(
            layer.conv.weight.detach()[:, :, None].to(memory_format=torch.channels_last) for layer in others
        ).requires_grad_(False)

    def forward(self, samples: torch.Tensor, n_left_out: int = 0) -> torch.Tensor:
        """Samples (n, n_samples) to frames (n, n_frames, size).

        n_left_out : frames of the first layer that follow, all of zero samples, and of which no others are wanted
        """
        # One row of frames is an image whose channels come last in memory.
        frames: torch.Tensor = self.first(samples, n_left_out)
        images = frames.transpose(1, 2)[:, :, None]
        for weight, stride in zip(self.weights, self.strides, strict=True):
            images = _gelu_in_place(conv2d(images, weight, stride=(1, stride)))
        return images[:, :, 0].transpose(1, 2)


class FoldedNorm(nn.Module):
    """The first filters, their group norm and GELU, with the norm folded into the filters.

    A channel is a weighted sum of the ten samples in a window. So its mean and variance over time follow from the means
    and products of the windows' samples, which are a hundred numbers, and the norm is a scale and a bias of each
    filter: one pass over the largest activation instead of four.
    """

    #: Columns of a window: its samples, others that no filter reads, and a one, whose products with the samples are
    #: their sums and whose filter is the bias. A product wants rows of whole 16 bytes.
    N_COLUMNS = 16
    #: Windows in one of the products that are added up: a single long one would keep few processors busy.
    CHUNK = 256

    def __init__(self, layer: Any) -> None:
        super().__init__()
        conv, norm = layer.conv, layer.layer_norm
        self.stride, self.eps = conv.stride[0], norm.eps
        self.filters = nn.Parameter(conv.weight.detach()[:, 0].T.contiguous(), requires_grad=False)  # (10, size)
        self.scale = nn.Parameter(norm.weight.detach(), requires_grad=False)
        self.bias = nn.Parameter(norm.bias.detach(), requires_grad=False)

    def forward(self, samples: torch.Tensor, n_left_out: int) -> torch.Tensor:
        """Samples (n, n_samples) to frames (n, n_frames, size)."""
        n_frames = (samples.shape[1] - len(self.filters)) // self.stride + 1
        windows = self._windows(samples, n_frames)
        filters = self._normalised(self._products(windows) / (n_frames + n_left_out))
        return _gelu_in_place(torch.bmm(windows[:, :n_frames], filters.to(samples.dtype)))

    def _windows(self, samples: torch.Tensor, n_frames: int) -> torch.Tensor:
        """One a row, shape = (n, n_rows, N_COLUMNS); after the frames there are rows of zeros, to whole chunks."""
        n_rows = -(-n_frames // self.CHUNK) * self.CHUNK
        padded = pad(samples, (0, n_rows * self.stride + self.N_COLUMNS - samples.shape[1]))
        windows = padded.unfold(1, self.N_COLUMNS, self.stride)[:, :n_rows].contiguous()
        windows[..., -1] = 1
        windows[:, n_frames:] = 0
        return windows

    def _products(self, windows: torch.Tensor) -> torch.Tensor:
        """Sums over the rows of the product of each two columns, float64, shape = (n, N_COLUMNS, N_COLUMNS)."""
        chunks = windows.view(-1, self.CHUNK, self.N_COLUMNS).double()
        products = chunks.mT @ chunks
        return products.view(len(windows), -1, self.N_COLUMNS, self.N_COLUMNS).sum(1)

    def _normalised(self, products: torch.Tensor) -> torch.Tensor:
        """The filters of each segment, whose outputs are normalised, shape = (n, N_COLUMNS, size); float64."""
        filters, n_samples = self.filters.double(), len(self.filters)
        means = products[:, -1, :n_samples] @ filters
        squares = (filters * (products[:, :n_samples, :n_samples] @ filters)).sum(1)
        scales = self.scale * torch.rsqrt(squares - means**2 + self.eps)
        normalised = filters.new_zeros(len(products), self.N_COLUMNS, filters.shape[1])
        normalised[:, :n_samples] = filters * scales[:, None]
        normalised[:, -1] = self.bias - means * scales
        return normalised


class SpectralPositions(nn.Module):
    """The positional convolution with its GELU, by Fourier transforms in float32 whatever the network computes in.

    Its kernels are 128 frames long, for which cuDNN takes longer than for all other filters together. A cast of this
    module to another type loses the imaginary parts: make it from float32 weights, after all casts.
    """

    spectra: torch.Tensor
    bias: torch.Tensor

    #: At least the longest sequence and a kernel, and a product of small primes.
    N_POINTS = 2400

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        conv = embedding.conv
        self.n_groups, n_taps, self.n_padding = conv.groups, conv.kernel_size[0], conv.padding[0]
        self.first = n_taps - 1 - self.n_padding
        size = conv.weight.shape[1]
        spectra = torch.fft.rfft(conv.weight.detach().float().flip(-1), n=self.N_POINTS)
        grouped = spectra.view(self.n_groups, size, size, -1).permute(0, 3, 2, 1)  # groups, points, in, out
        self.register_buffer("spectra", grouped.contiguous())
        self.register_buffer("bias", conv.bias.detach().float())

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Frames (n, n_frames, size) to as many."""
        n, n_frames, size = states.shape
        points = torch.fft.rfft(states.float(), n=self.N_POINTS, dim=1)
        points = points.view(n, -1, self.n_groups, size // self.n_groups).permute(2, 1, 0, 3)
        filtered = (points @ self.spectra).permute(2, 1, 0, 3).reshape(n, -1, size)
        signal = torch.fft.irfft(filtered, n=self.N_POINTS, dim=1)[:, self.first : self.first + n_frames]
        return gelu(signal + self.bias).to(states.dtype)


def _gelu_in_place(states: torch.Tensor) -> torch.Tensor:
    activated: torch.Tensor = torch.ops.aten.gelu_(states)
    return activated
