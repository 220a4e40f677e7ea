"""The three file layouts of a head: what is written comes back, and what does not fit is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from model.domain import WeightsError
from model.networks.checkpoint import read_tensors
from model.networks.head import DEFAULT_LAYER_MIX, HeadConfig, LayerMix
from model.networks.head_formats import load_head, save_head
from tests.model.networks.test_head import TINY, lively_head

HUB_CONFIG = {
    "model_type": "apex",
    "mert_model_name": "m-a-p/MERT-v1-95M",
    "layer_indices": [2, 5, 8, -1],
    "segment_sec": 30,
    "shared_dims": [6, 5],
    "branch_dims": [4, 3],
    "epoch": 50,
    "val_loss": 398.778,
}


def same_tensors(left: nn.Module, right: nn.Module) -> bool:
    a, b = left.state_dict(), right.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def write_hub(folder: Path, tensors: dict[str, torch.Tensor], **fields: Any) -> None:
    (folder / "config.json").write_text(json.dumps(HUB_CONFIG | fields))
    torch.save(tensors, folder / "pytorch_model.bin")


def write_training(folder: Path, tensors: dict[str, torch.Tensor], **fields: Any) -> None:
    torch.save({"model_state": tensors} | fields, folder / "best_model.pt")


def test_our_own_file_gives_back_every_bit(tmp_path: Path) -> None:
    head, mix = lively_head(), LayerMix((0.1, 0.2, 0.3, 1 / 3), -1e-9)
    save_head(tmp_path / "apex.safetensors", head, mix, {"epoch": 3, "val_loss": 0.1})
    loaded = load_head(tmp_path)
    assert same_tensors(loaded.head, head)
    assert (loaded.config, loaded.layer_mix) == (TINY, mix)
    assert loaded.info == {"epoch": 3, "val_loss": 0.1}


def test_the_same_head_is_written_as_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_head(tmp_path / name, lively_head(), info={"epoch": 3, "loss": "equal"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_training_scripts_checkpoint_loads(tmp_path: Path) -> None:
    head = lively_head(HeadConfig("popularity", 8, (7, 6, 5), (4, 3)))
    write_training(tmp_path, head.state_dict(), task="popularity", shared=3, mode="segment", epoch=9)
    loaded = load_head(tmp_path)
    assert same_tensors(loaded.head, head)
    assert loaded.layer_mix == DEFAULT_LAYER_MIX
    assert loaded.info == {"epoch": 9, "mode": "segment"}


@pytest.mark.parametrize("prefix", ["", "head.", "model.mlp."])
def test_the_hub_layout_loads_with_and_without_a_prefix(tmp_path: Path, prefix: str) -> None:
    head = lively_head()
    tensors = {f"{prefix}{name}": tensor for name, tensor in head.state_dict().items()}
    write_hub(tmp_path, tensors | {"mert.encoder.weight": torch.zeros(3)})
    loaded = load_head(tmp_path)
    assert same_tensors(loaded.head, head)
    assert loaded.layer_mix == DEFAULT_LAYER_MIX
    assert loaded.info == {"epoch": 50, "val_loss": 398.778}


def test_the_hubs_aggregator_becomes_the_layer_mix(tmp_path: Path) -> None:
    conv = {
        "aggregator.conv.weight": torch.tensor([[[1.0], [2.0], [3.0], [4.0]]]),
        "aggregator.conv.bias": torch.ones(1),
    }
    write_hub(tmp_path, lively_head().state_dict() | conv)
    assert load_head(tmp_path).layer_mix == LayerMix((1.0, 2.0, 3.0, 4.0), 1.0)


@pytest.mark.parametrize(
    "conv",
    [
        {"aggregator.weight": torch.ones(1, 4, 1)},
        {"aggregator.weight": torch.ones(1, 5, 1), "aggregator.bias": torch.ones(1)},
        {"aggregator.weight": torch.full((1, 4, 1), torch.nan), "aggregator.bias": torch.ones(1)},
        {"aggregator.weight": torch.ones(1, 4, 1), "aggregator.bias": torch.ones(2)},
        {"aggregator.weight": torch.ones(1, 4, 1), "aggregator.bias": torch.ones(1), "aggregator.x": torch.ones(1)},
    ],
)
def test_an_aggregator_of_another_kind_is_refused(tmp_path: Path, conv: dict[str, torch.Tensor]) -> None:
    write_hub(tmp_path, lively_head().state_dict() | conv)
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin"):
        load_head(tmp_path)


@pytest.mark.parametrize(
    "fields",
    [
        {"layer_indices": [3, 6, 9, 12]},
        {"segment_sec": 10},
        {"model_type": "bert"},
        {"mert_model_name": "m-a-p/MERT-v1-330M"},
        {"shared_dims": [6, 6]},
        {"shared_dims": [6, 5, 5]},
        {"shared_dims": []},
        {"shared_dims": "wide"},
        {"branch_dims": [4, 10**30]},
        {"task": "popularity"},
        {"task": ["full"]},
    ],
)
def test_a_hub_config_for_another_pipeline_is_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    write_hub(tmp_path, lively_head().state_dict(), **fields)
    with pytest.raises(WeightsError, match=r"config\.json|pytorch_model\.bin"):
        load_head(tmp_path)


@pytest.mark.parametrize("write", [write_hub, write_training])
def test_missing_and_unexpected_tensors_are_all_named(tmp_path: Path, write: Callable[..., None]) -> None:
    tensors = lively_head().state_dict()
    del tensors["shared.1.block.1.running_mean"], tensors["branch_clarity.branch.2.bias"]
    write(tmp_path, tensors | {"shared.9.weight": torch.zeros(2)})
    with pytest.raises(WeightsError) as caught:
        load_head(tmp_path)
    for name in (
        "shared.1.block.1.running_mean is missing",
        "branch_clarity.branch.2.bias is",
        "shared.9.weight is un",
    ):
        assert name in str(caught.value)


@pytest.mark.parametrize("name", ["shared.0.block.0.weight", "branch_score_streams.branch.0.block.0.weight"])
def test_a_tensor_that_gives_the_size_is_named_when_it_is_missing(tmp_path: Path, name: str) -> None:
    tensors = lively_head().state_dict()
    del tensors[name]
    write_training(tmp_path, tensors)
    with pytest.raises(WeightsError, match=f"{name} is missing"):
        load_head(tmp_path)


@pytest.mark.parametrize("write", [write_hub, write_training])
def test_a_layer_without_outputs_is_refused(tmp_path: Path, write: Callable[..., None]) -> None:
    write(tmp_path, lively_head().state_dict() | {"shared.0.block.0.weight": torch.zeros(0, 8)})
    with pytest.raises(WeightsError, match="sizes of layers|shape"):
        load_head(tmp_path)


def test_a_directory_holds_exactly_one_head(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds none of"):
        load_head(tmp_path)
    save_head(tmp_path / "apex.safetensors", lively_head())
    write_training(tmp_path, lively_head().state_dict())
    with pytest.raises(WeightsError, match=r"apex\.safetensors and best_model\.pt"):
        load_head(tmp_path)


GOOD_HEADER = {
    "config": {"task": "full", "input_dim": 8, "shared_dims": [6, 5], "branch_dims": [4, 3]},
    "layer_mix": {"weights": [1, 2, 3, 4], "bias": 5},
    "info": {},
}


@pytest.mark.parametrize(
    "header",
    [
        None,
        {},
        GOOD_HEADER | {"config": {"task": "full", "width": 3}},
        GOOD_HEADER | {"config": {"input_dim": 0}},
        GOOD_HEADER | {"config": {"input_dim": 9, "shared_dims": [6, 5], "branch_dims": [4, 3]}},
        GOOD_HEADER | {"layer_mix": {"weights": [1, 2, 3], "bias": 5}},
        GOOD_HEADER | {"layer_mix": {"weights": [1, 2, 3, "4"], "bias": 5}},
        GOOD_HEADER | {"layer_mix": {"weights": [1, 2, 3, 4], "bias": float("nan")}},
        GOOD_HEADER | {"info": [1]},
    ],
)
def test_a_header_of_our_file_that_makes_no_sense_is_refused(tmp_path: Path, header: Any) -> None:
    path = tmp_path / "apex.safetensors"
    save_head(path, lively_head())
    save_file(read_tensors(path), path, metadata=None if header is None else {"apex": json.dumps(header)})
    with pytest.raises(WeightsError, match=r"apex\.safetensors"):
        load_head(tmp_path)
