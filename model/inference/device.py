"""The device that a network runs on, by the names that users give it."""

import torch

from model.domain import DeviceError


def resolve_device(device: str) -> str:
    """The device itself; for "auto", CUDA where there is any, else the CPU. Raises DeviceError for one not there."""
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda" if n_cuda else "cpu"
    if device == "cuda" and not n_cuda:
        raise DeviceError(f"the device {device!r} was asked for, but this machine or this build of torch has no CUDA")
    if device not in ("cpu", "cuda", *(f"cuda:{number}" for number in range(n_cuda))):
        raise DeviceError(f"there is no device {device!r}: it is cpu, cuda, cuda:1 and so on, or auto")
    return device
