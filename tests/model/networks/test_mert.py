"""MERT: the published files load strictly, other networks are refused, and the right hidden states are pooled."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.domain import WeightsError
from model.networks.mert import HIDDEN_STATES, RENAMED_SUFFIXES, load_mert, pooled_states
from tests.model import reference

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def mert_dir(tiny_weights: Path, tmp_path: Path) -> Path:
    """A copy of the tiny MERT, to be changed."""
    return Path(shutil.copytree(tiny_weights / "mert", tmp_path / "mert"))


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def old_names(tensors: Tensors) -> Tensors:
    for old, new in RENAMED_SUFFIXES.items():
        tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
    return tensors


def new_names(tensors: Tensors) -> Tensors:
    for old, new in RENAMED_SUFFIXES.items():
        tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    return tensors


def test_pooled_states_are_the_time_means_of_hidden_states_2_5_8_and_12(mert_dir: Path) -> None:
    model, samples = load_mert(mert_dir), noise(3, 24_000)
    with torch.no_grad():
        states = model(samples, output_hidden_states=True).hidden_states
        pooled = pooled_states(model, samples)
    assert len(states) == 13
    expected = torch.stack([states[index].mean(dim=1) for index in HIDDEN_STATES], dim=1)
    assert pooled.shape == (3, 4, model.config.hidden_size)
    torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-5)


def test_pooling_leaves_no_hook_behind_even_after_a_failure(mert_dir: Path) -> None:
    model = load_mert(mert_dir)
    with pytest.raises(RuntimeError):
        pooled_states(model, noise(1, 5))  # shorter than the first filter
    assert not any(layer._forward_hooks for layer in model.encoder.layers)


def test_the_loaded_network_is_the_stock_one(mert_dir: Path) -> None:
    samples = noise(2, 24_000)
    with torch.no_grad():
        expected = reference.load_mert(mert_dir)(samples).last_hidden_state
        torch.testing.assert_close(load_mert(mert_dir)(samples).last_hidden_state, expected, rtol=0, atol=0)


def test_the_loaded_network_is_for_inference(mert_dir: Path) -> None:
    model = load_mert(mert_dir)
    assert not model.training
    assert all(p.dtype == torch.float32 and not p.requires_grad and p.device.type == "cpu" for p in model.parameters())


@pytest.mark.parametrize("renamed", [old_names, new_names])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_both_files_and_both_namings_of_the_weight_norm_load_alike(
    mert_dir: Path, renamed: Callable[[Tensors], Tensors], name: str
) -> None:
    expected = load_mert(mert_dir).state_dict()
    tensors = renamed(load_file(mert_dir / "model.safetensors"))
    (mert_dir / "model.safetensors").unlink()
    (save_file if name.endswith(".safetensors") else torch.save)(tensors, mert_dir / name)
    found = load_mert(mert_dir).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_loading_is_silent(mert_dir: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.DEBUG):
        load_mert(mert_dir)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "field",
    [
        {"feature_extractor_cqt": True},
        {"deepnorm": True},
        {"attention_relax": 32.0},
        {"do_stable_layer_norm": True},
        {"feat_extract_norm": "layer"},
        {"num_hidden_layers": 11},
        {"num_hidden_layers": 24},
        {"sample_rate": 16_000},
        {"hidden_act": "relu"},
        {"conv_pos_batch_norm": True},
    ],
)
def test_a_config_for_another_network_is_refused_by_name(mert_dir: Path, field: dict[str, Any]) -> None:
    edit(mert_dir / "config.json", **field)
    with pytest.raises(WeightsError, match=rf"config\.json: {next(iter(field))} is"):
        load_mert(mert_dir)


@pytest.mark.parametrize(
    "field",
    [
        {"hidden_size": "wide"},
        {"hidden_size": -1},
        {"hidden_size": 33},
        {"num_attention_heads": 0},
        {"conv_dim": 3},
        {"conv_dim": [16, 16]},
        {"conv_kernel": None},
    ],
)
def test_sizes_that_make_no_network_are_refused(mert_dir: Path, field: dict[str, Any]) -> None:
    edit(mert_dir / "config.json", **field)
    with pytest.raises(WeightsError, match=r"config\.json"):
        load_mert(mert_dir)


@pytest.mark.parametrize("field", [{"sampling_rate": 16_000}, {"do_normalize": False}])
def test_preprocessing_that_is_not_ours_is_refused(mert_dir: Path, field: dict[str, Any]) -> None:
    edit(mert_dir / "preprocessor_config.json", **field)
    with pytest.raises(WeightsError, match=rf"preprocessor_config\.json: {next(iter(field))}"):
        load_mert(mert_dir)


def test_preprocessing_may_go_unsaid(mert_dir: Path) -> None:
    (mert_dir / "preprocessor_config.json").unlink()
    load_mert(mert_dir)


def test_tensors_that_do_not_fit_the_config_are_all_named(mert_dir: Path) -> None:
    path = mert_dir / "model.safetensors"
    tensors = load_file(path)
    del tensors["masked_spec_embed"]
    tensors["encoder.layer_norm.bias"] = torch.zeros(7)
    tensors["encoder.layers.3.final_layer_norm.weight"][0] = torch.inf
    save_file(tensors | {"cqt.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError) as caught:
        load_mert(mert_dir)
    for part in ("masked_spec_embed is missing", "cqt.weight is unexpected", "layer_norm.bias has shape (7,)"):
        assert part in str(caught.value)
    assert "layers.3.final_layer_norm.weight holds NaN or infinity" in str(caught.value)


def test_a_directory_without_tensors_is_named(mert_dir: Path) -> None:
    (mert_dir / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="holds neither"):
        load_mert(mert_dir)
