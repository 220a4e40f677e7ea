"""Untrained weights in the published layout, so that everything can be tried and tested without the real ones."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from model.audio.pcm import Samples, normalise
from model.audio.synthesizer import synthesise
from model.domain import SAMPLE_RATE_HZ
from model.networks.checkpoint import Tensors, parse_json, read_metadata
from model.networks.head import DEFAULT_LAYER_MIX, SHARED_DIMS, ApexHead, HeadConfig
from model.networks.head_formats import HEAD_FILE, METADATA_KEY, save_head
from model.networks.mert import RENAMED_SUFFIXES, load_mert, pooled_states

if TYPE_CHECKING:
    from transformers import HubertModel

#: An entry in the header of each file of tensors, so that untrained weights are recognised without a manifest too.
MARK = "stand_in"
#: Seconds and number of the clips that set the running statistics of a head: enough for a plausible spread.
CLIP_S = 1.5
N_CLIPS = 12

#: MERT's own configuration, with the fields of its remote class that a loader has to cope with.
MERT_CONFIG: dict[str, Any] = {
    "architectures": ["MERTModel"],
    "auto_map": {
        "AutoConfig": "configuration_MERT.MERTConfig",
        "AutoModel": "modeling_MERT.MERTModel",
    },
    "model_type": "mert_model",
    "feature_extractor_cqt": False,
    "feature_extractor_cqt_bins": 336,
    "deepnorm": False,
    "attention_relax": -1.0,
    "do_stable_layer_norm": False,
    "feat_extract_norm": "group",
    "feat_extract_activation": "gelu",
    "feat_proj_layer_norm": True,
    "conv_bias": False,
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_feat_extract_layers": 7,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-05,
    "layerdrop": 0.1,
    "apply_spec_augment": True,
    "sample_rate": 24_000,
    "torch_dtype": "float32",
    "vocab_size": 32,
}
PREPROCESSOR_CONFIG: dict[str, Any] = {
    "do_normalize": True,
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0,
    "return_attention_mask": True,
    "sampling_rate": 24_000,
}
#: What each size changes in the published configuration. `tiny` takes a segment in 0.1 s on two cores.
SIZES: dict[str, dict[str, Any]] = {
    "full": {},
    "tiny": {"conv_dim": [16] * 7, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4},
}


def write(directory: Path, *, size: str, task: str, n_shared: int, seed: int) -> None:
    """Write `mert/` and `apex/` into a directory. Leaves torch's global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        _write_mert(directory / "mert", MERT_CONFIG | SIZES[size], seed)
        _write_head(directory / "apex", load_mert(directory / "mert"), task, n_shared, seed)


def is_marked(path: Path) -> bool:
    """Whether the header of a .safetensors file says that its weights are untrained."""
    header = read_metadata(path)
    info = parse_json(header.get(METADATA_KEY, "{}"), path).get("info")
    return MARK in header or (isinstance(info, dict) and MARK in info)


def mert_shapes(config: Mapping[str, Any]) -> dict[str, torch.Size]:
    """The tensors of a MERT of this configuration, under their published names."""
    from transformers import HubertConfig, HubertModel  # takes seconds, which a start with weights does not need

    fields = {name: value for name, value in config.items() if name not in ("model_type", "auto_map")}
    with torch.device("meta"):
        module = HubertModel(HubertConfig(**fields))
    return {_published_name(name): tensor.shape for name, tensor in module.state_dict().items()}


def _write_mert(folder: Path, config: Mapping[str, Any], seed: int) -> None:
    folder.mkdir()
    for name, content in (("config.json", config), ("preprocessor_config.json", PREPROCESSOR_CONFIG)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    save_file(_draw_mert(config), folder / "model.safetensors", metadata={MARK: f"seed {seed}"})


def _write_head(folder: Path, encoder: "HubertModel", task: str, n_shared: int, seed: int) -> None:
    """Write a head that fits the encoder and spreads its scores over the middle of their ranges."""
    head = ApexHead(HeadConfig(task=task, input_dim=encoder.config.hidden_size, shared_dims=SHARED_DIMS[n_shared]))
    samples = torch.from_numpy(np.stack([normalise(clip) for clip in _clips(seed)]))
    with torch.inference_mode():
        states = pooled_states(encoder, samples).numpy()
        _set_running_statistics(head, torch.from_numpy(DEFAULT_LAYER_MIX(states).astype(np.float32)))
    folder.mkdir()
    save_head(folder / HEAD_FILE, head, DEFAULT_LAYER_MIX, {MARK: f"seed {seed}"})


def _draw_mert(config: Mapping[str, Any]) -> Tensors:
    tensors = {name: _draw(name, shape) for name, shape in mert_shapes(config).items()}
    # Weight norm starts where it changes nothing: the gain of each kernel position is the length of its slice.
    position = "encoder.pos_conv_embed.conv"
    tensors[f"{position}.weight_g"] = tensors[f"{position}.weight_v"].norm(dim=(0, 1), keepdim=True)
    return tensors


def _draw(name: str, shape: torch.Size) -> torch.Tensor:
    if name.endswith("layer_norm.weight"):
        return torch.ones(shape)
    if len(shape) == 1:
        return 0.1 * torch.randn(shape)
    # Variance is kept from layer to layer, whatever the width.
    return torch.randn(shape) * math.sqrt(2 / shape[1:].numel())


def _published_name(name: str) -> str:
    for old, new in RENAMED_SUFFIXES.items():
        if name.endswith(new):
            return name.removesuffix(new) + old
    return name


def _clips(seed: int) -> Iterator[Samples]:
    """Pieces of music and noises of several colours, mono, at the model's rate: wider apart than tracks are."""
    rng = np.random.default_rng(seed)
    n_samples = round(CLIP_S * SAMPLE_RATE_HZ)
    for index in range(N_CLIPS // 2):
        yield synthesise(duration_s=CLIP_S, sample_rate_hz=SAMPLE_RATE_HZ, seed=index).mean(axis=1)
        spectrum = np.fft.rfft(rng.standard_normal(n_samples)) / np.arange(1, n_samples // 2 + 2) ** (index / 4)
        yield np.fft.irfft(spectrum, n_samples).astype(np.float32)


def _set_running_statistics(head: ApexHead, embeddings: torch.Tensor) -> None:
    """Set the statistics of each BatchNorm to those of these embeddings, as training would."""
    head.eval()
    for norm in (module for module in head.modules() if isinstance(module, nn.BatchNorm1d)):
        norm.train()
        norm.momentum = 1.0
    head(embeddings)
    head.eval()
