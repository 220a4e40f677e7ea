"""Names of devices."""

import pytest
import torch

from model.domain import DeviceError
from model.inference.device import resolve_device


@pytest.fixture
def n_cuda(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """As many CUDA devices as the parameter says."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)


@pytest.mark.parametrize(("n_cuda", "expected"), [(0, "cpu"), (2, "cuda")], indirect=["n_cuda"])
@pytest.mark.usefixtures("n_cuda")
def test_auto_is_cuda_where_there_is_any(expected: str) -> None:
    assert resolve_device("auto") == expected


@pytest.mark.parametrize("n_cuda", [2], indirect=True)
@pytest.mark.usefixtures("n_cuda")
def test_a_device_that_is_there_is_itself() -> None:
    assert [resolve_device(name) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda", "cuda:1"]


@pytest.mark.parametrize("n_cuda", [0], indirect=True)
@pytest.mark.usefixtures("n_cuda")
def test_cuda_is_refused_where_there_is_none() -> None:
    with pytest.raises(DeviceError, match="no CUDA"):
        resolve_device("cuda")


@pytest.mark.parametrize("n_cuda", [0, 2], indirect=True)
@pytest.mark.parametrize("name", ["tpu", "cuda:7", "cpu:1", ""])
@pytest.mark.usefixtures("n_cuda")
def test_a_device_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(DeviceError, match=f"there is no device '{name}'"):
        resolve_device(name)
