"""MERT-v1-95M, the encoder. It is a `transformers.HubertModel`; no code but transformers' own is run for it.

Knows nothing of scores, and downloads nothing.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.nn.utils.parametrize import remove_parametrizations

from model.domain import SAMPLE_RATE_HZ, WeightsError
from model.networks.checkpoint import (
    Tensors,
    attempt,
    deviations,
    load_strictly,
    raise_if_faulty,
    read_json,
    read_tensors,
)
from model.networks.padding import N_REPRESENTATIVES, Filters, Number, Padding, padded_frame, padded_norm

# Where it is needed transformers is imported in the function: it takes seconds, and a worker that finds the encoder
# compiled does without it.
if TYPE_CHECKING:
    from transformers import HubertConfig, HubertModel

N_LAYERS = 12
#: The hidden states that APEX reads. Index 0 is the embedding, index i the output of the i-th layer.
HIDDEN_STATES = (2, 5, 8, 12)

#: Fields of config.json that define the architecture, with the values of MERT-v1-95M; an absent field has that value.
FIXED_FIELDS = {
    "feature_extractor_cqt": False,  # a second, constant-Q front end
    "deepnorm": False,
    "attention_relax": -1,
    "do_stable_layer_norm": False,
    "feat_extract_norm": "group",
    "feat_extract_activation": "gelu",
    "hidden_act": "gelu",
    "conv_pos_batch_norm": False,
    "num_hidden_layers": N_LAYERS,
    "sample_rate": SAMPLE_RATE_HZ,
}
#: Fields that give the sizes. Everything else in the file is about training, tokens or remote code, and not read.
SIZE_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "layer_norm_eps",
    "feat_proj_layer_norm",
    "conv_dim",
    "conv_kernel",
    "conv_stride",
    "conv_bias",
    "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups",
    "mask_time_prob",  # above zero, a vector for masked frames is among the weights; inference masks nothing
    "mask_feature_prob",
)
#: Of the convolutions, where the file does not name them.
KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
#: What preprocessing must be, as `model.audio.pcm` does it.
PREPROCESSING_FIELDS = {"sampling_rate": SAMPLE_RATE_HZ, "do_normalize": True, "feature_size": 1}

#: torch.nn.utils.weight_norm named its two tensors so before torch 2, and the published file still does.
RENAMED_SUFFIXES = {
    ".conv.weight_g": ".conv.parametrizations.weight.original0",
    ".conv.weight_v": ".conv.parametrizations.weight.original1",
}
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class EncoderSource:
    """An encoder that is not loaded yet. An engine with a compiled copy of it in its cache never loads it."""

    directory: Path
    digest: str  # of every file that its numbers come from

    def load(self) -> "HubertModel":
        """See `load_mert`."""
        return load_mert(self.directory)

    def filters(self) -> Filters:
        """Of its convolutions, which the config alone tells."""
        fields = read_json(self.directory / "config.json")
        return Filters(fields.get("conv_kernel", KERNELS), fields.get("conv_stride", STRIDES))


def load_mert(directory: Path) -> "HubertModel":
    """The encoder from a directory with config.json and model.safetensors, or else pytorch_model.bin.

    Float32, on the CPU, in eval mode, without gradients. Raises WeightsError when the config describes another network,
    naming the fields, or when the tensors are not exactly those of the config, naming the tensors.
    """
    from transformers import HubertModel

    config = _config(directory / "config.json")
    _check_preprocessing(directory / "preprocessor_config.json")
    path = weights_path(directory)
    return load_strictly(lambda: HubertModel(config), _renamed(read_tensors(path)), path).requires_grad_(False)


def weights_path(directory: Path) -> Path:
    """The file of tensors that `load_mert` reads."""
    for name in WEIGHT_FILES:
        if (directory / name).exists():
            return directory / name
    raise WeightsError(f"{directory}: holds neither {' nor '.join(WEIGHT_FILES)}")


class PooledMert(nn.Module):
    """The encoder as engines run it: straight from samples to the means that APEX reads.

    Calls the stock modules one after the other, without hooks and without a list of thirteen states, so that the whole
    can be compiled.

    The padded frames of a segment are equal, so float32 rounds them all alike, and in a sum over time the errors add up
    instead of cancelling. So attention and the mean sum the differences from one such frame, which are almost nothing
    for the others: the same algebra with a sixth of the error.
    """

    def __init__(self, mert: "HubertModel", *, attention_dtype: torch.dtype | None = None) -> None:
        from transformers import AttentionInterface

        super().__init__()
        name = f"apex_centred_{attention_dtype}"
        AttentionInterface.register(name, partial(centred_attention, product_dtype=attention_dtype))
        mert.set_attn_implementation(name)
        self.mert = mert
        self.front_end: nn.Module = FrontEnd(mert.feature_extractor.conv_layers)
        self.filters = Filters(mert.config.conv_kernel, mert.config.conv_stride)

    def forward(self, samples: torch.Tensor, n_padding: int = 0) -> torch.Tensor:
        """Time means of the hidden states 2, 5, 8 and 12, in float32 or better whatever the network computes in.

        samples : shape = (n_segments, n_samples), normalised
        n_padding : zeros that follow the samples of each segment; most of what they cost is left out
        returns shape = (n_segments, 4, hidden_size)
        """
        padding = Padding.of(self.filters, samples.shape[1], n_padding)
        return self.pooled(pad(samples, (0, padding.n_zeros)), padding)

    def pooled(self, samples: torch.Tensor, padding: Padding) -> torch.Tensor:
        """The same, of samples with the zeros that are computed."""
        encoder, frames = self.mert.encoder, self.front_end(samples, padding.n_left_out)
        states = padding.repeat_last(self.mert.feature_projection(frames))
        states = encoder.layer_norm(states + encoder.pos_conv_embed(states))
        bias = padding.attention_bias(states)
        pooled = []
        for index, layer in enumerate(encoder.layers, 1):
            states = layer(states, attention_mask=bias)
            if index in HIDDEN_STATES:
                pooled.append(padding.time_mean(states.to(torch.promote_types(states.dtype, torch.float32))))
        return torch.stack(pooled, dim=1)


class AnyLength(nn.Module):
    """The same network as one graph for sound of any length, for a compiler that takes shapes as they come."""

    def __init__(self, network: PooledMert) -> None:
        super().__init__()
        self.network = network

    def forward(self, samples: torch.Tensor, n_left_out: torch.Tensor, log_weights: torch.Tensor) -> torch.Tensor:
        """Of samples with the zeros that are computed, and what `Padding` says of the others, as float32."""
        n_frames = self.network.filters.n_frames(samples.shape[1]) - N_REPRESENTATIVES + log_weights.exp().sum()
        return self.network.pooled(samples, Padding(0, n_left_out, 0, n_frames, log_weights.unbind()))


class FrontEnd(nn.Module):
    """The convolutions, from samples to frames."""

    layers: Any  # of transformers

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, samples: torch.Tensor, n_left_out: Number = 0) -> torch.Tensor:
        """Samples (n, n_samples) to frames (n, n_frames, size).

        n_left_out : frames of the first layer that follow, each like the last, and of which no others are wanted
        """
        first, *others = self.layers
        frames: torch.Tensor = first.conv(samples[:, None])
        is_whole = isinstance(n_left_out, int) and n_left_out == 0
        frames = first.layer_norm(frames) if is_whole else padded_norm(first.layer_norm, frames, n_left_out)
        frames = first.activation(frames)
        for layer in others:
            frames = layer(frames)
        return frames.transpose(1, 2)


def centred_attention(
    module: nn.Module,  # noqa: ARG001
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    scaling: float,
    product_dtype: torch.dtype | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it, all shapes (n, n_heads, n_frames, size), taken around one frame's value.

    product_dtype : type of the numbers that are multiplied, if not that of the arguments
    """
    dtype, frame = product_dtype or value.dtype, padded_frame(value)
    query, key, centred = (each.to(dtype) for each in (query, key, value - frame))
    mask = None if mask is None else mask.to(dtype)
    attended = scaled_dot_product_attention(query, key, centred, mask, scale=scaling)
    return (attended.to(value.dtype) + frame).transpose(1, 2), None


def pooled_states(model: "HubertModel", samples: torch.Tensor) -> torch.Tensor:
    """What `PooledMert` gives for these samples, float32, shape = (n_segments, n_samples), normalised."""
    pooled: torch.Tensor = PooledMert(model)(samples)
    return pooled


def fold_weight_norm(mert: "HubertModel") -> "HubertModel":
    """Compute the weight-normed kernel once; transformers computes it in every call. The numbers do not change."""
    remove_parametrizations(mert.encoder.pos_conv_embed.conv, "weight")
    return mert


def _config(path: Path) -> "HubertConfig":
    fields = read_json(path)
    raise_if_faulty(path, deviations(fields, FIXED_FIELDS))
    sizes = {name: fields[name] for name in SIZE_FIELDS if name in fields}
    return attempt(_hubert_config, sizes, path=path)


def _hubert_config(sizes: dict[str, Any]) -> "HubertConfig":
    from transformers import HubertConfig, HubertModel

    config = HubertConfig(**sizes, num_hidden_layers=N_LAYERS, attn_implementation="sdpa")
    with torch.device("meta"):  # sizes that do not fit together show only when the network is built
        HubertModel(config)
    return config


def _check_preprocessing(path: Path) -> None:
    if path.exists():
        raise_if_faulty(path, deviations(read_json(path), PREPROCESSING_FIELDS))


def _renamed(tensors: Tensors) -> Tensors:
    for old, new in RENAMED_SUFFIXES.items():
        tensors = {name.removesuffix(old) + new if name.endswith(old) else name: t for name, t in tensors.items()}
    return tensors
