"""The padding of a segment, computed once instead of frame by frame.

All padded frames of a segment are equal, but for those near its edges. So the network computes the sound, as much
padding as the edges reach, and a few frames that stand for all others. That is algebra, not an approximation: the time
means change by rounding alone. Knows the shape of the network, and none of its weights.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

#: A tensor where one exported network serves all lengths.
Number = int | float | torch.Tensor

#: Frames on both sides of each frame that the positional convolution reads.
EDGE_FRAMES = 64
#: Frames that stand for all between the edges.
N_REPRESENTATIVES = 4


@dataclass(frozen=True)
class Filters:
    """Kernels and strides of the convolutions that turn samples into frames."""

    kernels: Sequence[int]
    strides: Sequence[int]

    def n_frames(self, n_samples: int, n_layers: int | None = None) -> int:
        """Frames that the first layers, or all, make of so many samples."""
        for kernel, stride in list(zip(self.kernels, self.strides, strict=True))[:n_layers]:
            n_samples = (n_samples - kernel) // stride + 1
        return n_samples

    def n_samples(self, n_frames: int) -> int:
        """Samples that so many frames read."""
        for kernel, stride in reversed(list(zip(self.kernels, self.strides, strict=True))):
            n_frames = (n_frames - 1) * stride + kernel
        return n_frames

    def n_reached(self, n_samples: int) -> int:
        """Frames that read any of the first so many samples."""
        return -(-n_samples // math.prod(self.strides))


@dataclass(frozen=True)
class Padding:
    """What is computed of the zeros that follow a segment's samples."""

    n_zeros: int  # that are appended to the samples
    n_left_out: Number  # frames of the first layer, each like the last of them, which its norm counts
    n_repeated: int  # frames that are appended to those of the last layer, each like the last of them
    n_frames: Number  # of the segment, left out or not
    log_weights: Sequence[Number] = ()  # of the frames before the last edge; each other frame has the weight one

    @classmethod
    def of(cls, filters: Filters, n_samples: int, n_padding: int, *, repeated: bool = True) -> "Padding":
        """The least that gives the time means of the whole; all zeros where too few frames could be left out.

        repeated : whether one padded frame is computed and repeated, instead of computing each that is needed
        """
        n_frames, n_reached = filters.n_frames(n_samples + n_padding), filters.n_reached(n_samples)
        n_equal = n_frames - n_reached - 2 * EDGE_FRAMES
        if n_equal <= N_REPRESENTATIVES:
            return cls(n_padding, 0, 0, n_frames)
        n_repeated = 2 * EDGE_FRAMES + N_REPRESENTATIVES - 1 if repeated else 0
        n_computed = filters.n_samples(n_reached + 2 * EDGE_FRAMES + N_REPRESENTATIVES - n_repeated)
        n_computed += -n_computed % math.prod(filters.strides)  # lengths by which every layer's stride can be divided
        return cls(
            n_zeros=n_computed - n_samples,
            n_left_out=filters.n_frames(n_samples + n_padding, 1) - filters.n_frames(n_computed, 1),
            n_repeated=n_repeated,
            n_frames=n_frames,
            log_weights=tuple(_log_weights(n_equal)),
        )

    def repeat_last(self, states: torch.Tensor) -> torch.Tensor:
        """Frames (n, n_frames, size), and the last of them repeated."""
        return torch.cat([states, states[:, -1:].expand(-1, self.n_repeated, -1)], dim=1) if self.n_repeated else states

    def attention_bias(self, states: torch.Tensor) -> torch.Tensor | None:
        """What is added to the scores of each frame (n, n_frames, size) as a key, in its type; None if nothing is."""
        if not self.log_weights:
            return None
        zeros, one = torch.zeros_like(states[0, :, 0]), states.new_ones(1)
        weighted = [one * log_weight for log_weight in self.log_weights]
        return torch.cat([zeros[EDGE_FRAMES + len(weighted) :], *weighted, zeros[:EDGE_FRAMES]])[None, None, None]

    def time_mean(self, states: torch.Tensor) -> torch.Tensor:
        """Mean over the frames, shape = (n, n_frames, size), taken around a frame that stands for others."""
        frame = padded_frame(states)
        return (frame + (states - frame).sum(dim=1, keepdim=True) / self.n_frames)[:, 0]


def padded_frame(states: torch.Tensor) -> torch.Tensor:
    """The last frame, along the last axis but one, that is like all before it wherever a segment ends in padding."""
    return states[..., -EDGE_FRAMES - 1 :, :][..., :1, :]


def padded_norm(norm: nn.GroupNorm, frames: torch.Tensor, n_left_out: Number) -> torch.Tensor:
    """A group norm whose groups are channels, of frames (n, size, n_frames) and so many more like the last of them."""
    frames, dtype = frames.to(torch.promote_types(frames.dtype, torch.float32)), frames.dtype
    n_frames, last = frames.shape[-1] + n_left_out, frames[..., -1:]
    mean = (frames.sum(dim=-1, keepdim=True) + n_left_out * last) / n_frames
    centred = frames - mean
    squares = centred.square().sum(dim=-1, keepdim=True) + n_left_out * (last - mean).square()
    scale = norm.weight[:, None] * torch.rsqrt(squares / n_frames + norm.eps)
    return (centred * scale + norm.bias[:, None]).to(dtype)


def _log_weights(n_equal: int) -> Iterator[float]:
    """Logarithms of weights whose sum is so many, each a number of bfloat16: eight bits hold no logarithm well enough.

    Each takes the largest part of the rest that it can, so that the rest shrinks to a thirtieth each time.
    """
    rest = float(n_equal)
    for _ in range(N_REPRESENTATIVES - 1):
        log_weight = _rounded_down(math.log(rest))
        rest -= math.exp(log_weight)
        yield log_weight
    yield _rounded_down(math.log(rest))


def _rounded_down(value: float) -> float:
    """The largest number of bfloat16 that is not above this one."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(math.floor(mantissa * 256), exponent - 8)
