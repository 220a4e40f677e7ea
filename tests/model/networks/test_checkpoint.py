"""Files of weights are untrusted: each kind of wrong one ends in a WeightsError that names the file and the fault."""

import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from model.domain import WeightsError
from model.networks.checkpoint import load_strictly, read_checkpoint, read_json, read_metadata, read_tensors, require

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}


def saved(path: Path, value: Any) -> Path:
    torch.save(value, path)
    return path


class Payload:
    """Unpickled by a careless reader, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "best.pt"])
def test_tensors_come_back_as_they_were_saved(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save_file(TENSORS, path) if name.endswith(".safetensors") else torch.save(TENSORS, path)
    found = read_tensors(path)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[key], TENSORS[key]) for key in TENSORS)


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    path = saved(tmp_path / "pytorch_model.bin", {"a": Payload(trace)})
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin") as caught:
        read_tensors(path)
    assert caught.value.__cause__ is not None
    assert not trace.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"{}", b"\xff" * 9, b"PK\x03\x04 not a zip", pickle.dumps([1])])
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        read_tensors(path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_cut_short_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save_file(TENSORS, path) if name.endswith(".safetensors") else torch.save(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(WeightsError, match=name):
        read_tensors(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="nowhere"):
        read_tensors(tmp_path / "nowhere.safetensors")


def huge_claim() -> torch.Tensor:
    return torch.zeros(1).expand(1 << 20, 1 << 20)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ([torch.zeros(1)], "not a mapping"),
        (torch.zeros(1), "not a mapping"),
        ({"a": 1.0}, "a is not a named tensor"),
        ({"a": {"b": torch.zeros(1)}}, "a is not a named tensor"),
        ({1: torch.zeros(1)}, "1 is not a named tensor"),
        ({"a": torch.zeros(2, dtype=torch.int32)}, r"a holds torch\.int32"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, r"a holds torch\.complex64"),
        ({"a": torch.eye(2).to_sparse()}, "a is not a dense tensor"),
        ({"a": torch.zeros(2, device="meta")}, "a is not a dense tensor"),
        ({"a": huge_claim()}, "a claims more numbers"),
    ],
)
def test_anything_but_named_dense_float_tensors_is_refused(tmp_path: Path, value: Any, fault: str) -> None:
    with pytest.raises(WeightsError, match=rf"weights\.bin: .*{fault}"):
        read_tensors(saved(tmp_path / "weights.bin", value))


def test_every_difference_is_named_at_once() -> None:
    tensors = {"shape": torch.zeros(3), "nan": torch.tensor([1.0, float("nan")]), "extra": torch.zeros(1)}
    with pytest.raises(WeightsError) as caught:
        require(tensors, {"lost": (1,), "shape": (2,), "nan": (2,)}, Path("dir/file.bin"))
    text = str(caught.value)
    for part in (
        "dir/file.bin",
        "lost is missing",
        "extra is unexpected",
        "shape has shape (3,), not (2,)",
        "nan holds",
    ):
        assert part in text


def test_exactly_the_expected_tensors_pass() -> None:
    require(TENSORS, {"a.weight": (2, 3), "a.bias": (2,)}, Path("file"))


def test_a_module_gets_its_own_float32_copies() -> None:
    half = {"weight": torch.ones(2, 3, dtype=torch.float16), "bias": torch.zeros(2)}
    module = load_strictly(lambda: nn.Linear(3, 2), half, Path("file"))
    half["bias"] += 1
    assert module.weight.dtype == torch.float32
    assert not module.training
    assert not module.bias.any()


def test_a_training_checkpoint_gives_tensors_conditions_and_plain_facts(tmp_path: Path) -> None:
    optimizer = torch.optim.AdamW([torch.zeros(2, requires_grad=True)])
    content = {"model_state": TENSORS, "optimizer_state": optimizer.state_dict(), "task": "popularity", "shared": 3}
    content |= {"mode": "segment", "loss": "uncertainty", "epoch": 7, "val_loss": 1.5, "train_loss": float("inf")}
    found = read_checkpoint(saved(tmp_path / "best_model.pt", content))
    assert (found.task, found.n_shared) == ("popularity", 3)
    assert found.info == {"mode": "segment", "loss": "uncertainty", "epoch": 7, "val_loss": 1.5}
    assert found.tensors.keys() == TENSORS.keys()


def test_absent_conditions_mean_full_two_and_song(tmp_path: Path) -> None:
    found = read_checkpoint(saved(tmp_path / "best_model.pt", {"model_state": TENSORS}))
    assert (found.task, found.n_shared, found.info) == ("full", 2, {"mode": "song"})


@pytest.mark.parametrize(
    "content",
    [
        TENSORS,
        [],
        {"model_state": None},
        {"model_state": TENSORS, "task": "everything"},
        {"model_state": TENSORS, "task": ["full"]},
        {"model_state": TENSORS, "shared": 4},
        {"model_state": TENSORS, "shared": True},
        {"model_state": TENSORS, "shared": torch.tensor([2, 2])},
        {"model_state": TENSORS, "mode": 1},
    ],
)
def test_what_is_no_training_checkpoint_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(WeightsError, match=r"best_model\.pt"):
        read_checkpoint(saved(tmp_path / "best_model.pt", content))


@pytest.mark.parametrize("content", [b"[1]", b"{", b"\xff\xfe", b"null", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(WeightsError, match=r"config\.json"):
        read_json(tmp_path / "config.json")


def test_metadata_is_what_the_header_says(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "with.safetensors", metadata={"apex": "{}"})
    save_file(TENSORS, tmp_path / "without.safetensors")
    assert read_metadata(tmp_path / "with.safetensors") == {"apex": "{}"}
    assert read_metadata(tmp_path / "without.safetensors") == {}


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    buffer = io.BytesIO()
    torch.save(nn.Linear(1, 1), buffer)  # a whole module, which needs code to come back
    path.write_bytes(buffer.getvalue())
    with pytest.raises(WeightsError, match="cannot be used"):
        read_tensors(path)
