"""Reading files of weights as untrusted input: any fault raises a WeightsError that names the file.

Knows nothing of what MERT and APEX compute. Nothing in a file is ever executed.
"""

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from model.domain import TASK_SCORES, WeightsError

Tensors = dict[str, torch.Tensor]
Shapes = Mapping[str, tuple[int, ...]]
#: Single values about a training run, to be shown and kept, never computed with.
Info = dict[str, str | int | float]

Value = TypeVar("Value")
Module = TypeVar("Module", bound=nn.Module)

MODES = ("song", "segment")
#: What of a training run is worth showing beside its scores.
INFO_KEYS = ("epoch", "loss", "mode", "train_loss", "val_loss")
FLOAT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
#: The only integers in the layouts that we read: how many batches a BatchNorm has seen.
COUNTER_SUFFIX = ".num_batches_tracked"
MAX_REASON_CHARS = 400


@dataclass(frozen=True)
class TrainingCheckpoint:
    """What inference needs of the dict that the training script saves; optimizer and scheduler are left behind."""

    tensors: Tensors
    task: str
    n_shared: int
    info: Info


def read_tensors(path: Path) -> Tensors:
    """The tensors of a .safetensors, .bin or .pt file, on the CPU, in the types that the file has.

    Raises WeightsError when the file cannot be read, or holds anything but named dense tensors of numbers.
    """
    load = load_file if path.suffix == ".safetensors" else _load_pickle
    return checked_tensors(attempt(load, path, path=path), path)


def read_checkpoint(path: Path) -> TrainingCheckpoint:
    """The training script's dict (`best_model.pt`). An absent task, shared or mode means full, 2, song."""
    saved = attempt(_load_pickle, path, path=path)
    if not isinstance(saved, Mapping) or "model_state" not in saved:
        raise WeightsError(f"{path}: not a training checkpoint: it has no model_state")
    mode = _one_of(MODES, saved.get("mode", "song"), "mode", path)
    return TrainingCheckpoint(
        tensors=checked_tensors(saved["model_state"], path),
        task=_one_of(TASK_SCORES, saved.get("task", "full"), "task", path),
        n_shared=_one_of((2, 3), saved.get("shared", 2), "shared", path),
        info=info_of(saved, INFO_KEYS) | {"mode": mode},
    )


def read_metadata(path: Path) -> dict[str, str]:
    """The texts in the header of a .safetensors file; empty when it has none."""
    return attempt(_load_metadata, path, path=path)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; WeightsError when it holds anything else."""
    return parse_json(attempt(path.read_text, "utf-8", path=path), path)


def parse_json(text: str, path: Path) -> dict[str, Any]:
    """The JSON object in a text that came with a file; WeightsError when it is anything else."""
    value = attempt(json.loads, text, path=path)
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: not a JSON object")
    return value


def info_of(mapping: Mapping[str, Any], keys: Iterable[str]) -> Info:
    """The entries under these keys that are texts or finite numbers; others are dropped."""
    return {key: mapping[key] for key in keys if _is_plain(mapping.get(key))}


def checked_tensors(value: object, path: Path) -> Tensors:
    """The value, if it maps names to dense tensors of numbers; else WeightsError, with every fault."""
    if not isinstance(value, Mapping):
        raise WeightsError(f"{path}: not a mapping of names to tensors")
    raise_if_faulty(path, (f"{name} {fault}" for name, item in value.items() if (fault := _tensor_fault(name, item))))
    return dict(value)


def require(tensors: Mapping[str, torch.Tensor], expected: Shapes, path: Path) -> None:
    """Raises WeightsError unless the tensors have exactly the expected names and shapes and only finite numbers.

    The message names the file and every missing, unexpected, misshapen or non-finite tensor.
    """
    raise_if_faulty(path, _differences(tensors, expected))


def load_strictly(build: Callable[[], Module], tensors: Mapping[str, torch.Tensor], path: Path) -> Module:
    """Builds a module and gives it exactly these tensors, as float32 copies on the CPU; returns it in eval mode."""
    with torch.device("meta"):  # no memory for a size that the file does not fill, no time for initial weights
        module = build()
    require(tensors, shapes(module), path)
    # Copies, because safetensors maps the file: a file replaced in place would change the weights of a warm worker.
    copies = {name: tensor.to(_used_type(name), copy=True) for name, tensor in tensors.items()}
    module.load_state_dict(copies, strict=True, assign=True)
    return module.eval()


def attempt(step: Callable[..., Value], *arguments: Any, path: Path) -> Value:
    """The result of `step(*arguments)`. Any exception becomes a WeightsError that names the file.

    Any exception, because libraries raise errors of every kind for broken files.
    """
    try:
        return step(*arguments)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise WeightsError(f"{path}: cannot be used: {reason[:MAX_REASON_CHARS]}") from error


def deviations(fields: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each field that is there and has another value than wanted."""
    for name, value in wanted.items():
        if fields.get(name, value) != value:
            yield f"{name} is {fields[name]!r} where only {value!r} is supported"


def shapes(module: nn.Module) -> Shapes:
    """The names and shapes of everything that a module saves."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def raise_if_faulty(path: Path, faults: Iterable[str]) -> None:
    """Raises WeightsError naming the file and every fault, if there is any."""
    if text := "; ".join(faults):
        raise WeightsError(f"{path}: {text}")


def _load_pickle(path: Path) -> object:
    return torch.load(path, map_location="cpu", weights_only=True)


def _load_metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def _one_of(choices: Collection[Value], value: object, name: str, path: Path) -> Value:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    raise WeightsError(f"{path}: {name} is {value!r}, not one of {', '.join(map(str, choices))}")


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) or (type(value) in (int, float) and math.isfinite(value))


def _tensor_fault(name: object, item: object) -> str | None:
    if not isinstance(name, str) or not isinstance(item, torch.Tensor):
        return "is not a named tensor"
    if item.layout is not torch.strided or item.is_quantized or item.device.type != "cpu":
        return "is not a dense tensor on the CPU"
    if item.dtype not in FLOAT_TYPES and not name.endswith(COUNTER_SUFFIX):
        return f"holds {item.dtype}, not floating point numbers"
    # A stride of zero lets a small file claim any shape, and a copy of it would take that much memory.
    if item.numel() * item.element_size() > item.untyped_storage().nbytes():
        return "claims more numbers than the file holds"
    return None


def _differences(tensors: Mapping[str, torch.Tensor], expected: Shapes) -> Iterator[str]:
    yield from (f"{name} is missing" for name in expected if name not in tensors)
    yield from (f"{name} is unexpected" for name in tensors if name not in expected)
    for name in expected.keys() & tensors.keys():
        if tensors[name].shape != expected[name]:
            yield f"{name} has shape {tuple(tensors[name].shape)}, not {expected[name]}"
        elif not torch.isfinite(tensors[name]).all():
            yield f"{name} holds NaN or infinity"


def _used_type(name: str) -> torch.dtype:
    return torch.int64 if name.endswith(COUNTER_SUFFIX) else torch.float32
