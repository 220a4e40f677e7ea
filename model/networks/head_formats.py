"""The three file layouts that a head comes in: ours, the training script's and the hub's."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from model.domain import SEGMENT_S, TASK_SCORES, WeightsError
from model.files import atomic_write
from model.networks.checkpoint import (
    INFO_KEYS,
    Info,
    Tensors,
    TrainingCheckpoint,
    attempt,
    deviations,
    info_of,
    load_strictly,
    parse_json,
    raise_if_faulty,
    read_checkpoint,
    read_json,
    read_metadata,
    read_tensors,
)
from model.networks.head import (
    BRANCH_DIMS,
    DEFAULT_LAYER_MIX,
    EMBEDDING_DIM,
    SHARED_DIMS,
    ApexHead,
    HeadConfig,
    LayerMix,
    branch_name,
)

HEAD_FILE = "apex.safetensors"
#: The one metadata entry of our file. One, because safetensors writes several in no fixed order, and the hash of the
#: file is the version of the scores.
METADATA_KEY = "apex"

#: Fields of the hub's config.json that describe the pipeline, with the only values that are supported.
HUB_FIXED_FIELDS = {
    "model_type": "apex",
    "mert_model_name": "m-a-p/MERT-v1-95M",
    "layer_indices": [2, 5, 8, -1],
    "segment_sec": SEGMENT_S,
}
#: Fields of the hub's config.json that give the shapes of the head; absent ones are taken from the tensors.
HUB_SIZE_FIELDS = ("task", "shared_dims", "branch_dims")


@dataclass(frozen=True)
class LoadedHead:
    """A head in eval mode, the layer mix before it, the file they come from, and facts about the training."""

    head: ApexHead
    layer_mix: LayerMix
    path: Path
    info: Info

    @property
    def config(self) -> HeadConfig:
        return self.head.config


def load_head(path: Path) -> LoadedHead:
    """The head in a file, or in a directory that holds exactly one of the files in `LAYOUTS`.

    Raises WeightsError when there is none or more than one, or when the tensors are not exactly those of the
    architecture that the file declares; nothing is filled in or left out.
    """
    if path.is_file():
        return _layout_of(path)(path)
    found = [name for name in LAYOUTS if (path / name).exists()]
    if len(found) != 1:
        raise WeightsError(f"{path}: holds {' and '.join(found) or 'none'} of {', '.join(LAYOUTS)}; exactly one is due")
    return LAYOUTS[found[0]](path / found[0])


def save_head(path: Path, head: ApexHead, layer_mix: LayerMix = DEFAULT_LAYER_MIX, info: Info | None = None) -> None:
    """Write tensors, config, layer mix and info into one .safetensors file; the same head gives the same bytes.

    The file appears whole or not at all.
    """
    about = {"config": asdict(head.config), "layer_mix": asdict(layer_mix), "info": info or {}}
    tensors = {name: tensor.contiguous() for name, tensor in head.state_dict().items()}
    with atomic_write(path) as partial:
        save_file(tensors, partial, metadata={METADATA_KEY: json.dumps(about, sort_keys=True, allow_nan=False)})


def _load_own(path: Path) -> LoadedHead:
    about = parse_json(read_metadata(path).get(METADATA_KEY, "null"), path)
    config, layer_mix, info = attempt(_parse_header, about, path=path)
    return LoadedHead(_build(config, read_tensors(path), path), layer_mix, path, info)


def _load_training(path: Path) -> LoadedHead:
    saved = read_checkpoint(path)
    _check_same_task(saved, path)
    config = attempt(_config_of, saved.tensors, saved.task, saved.n_shared, path=path)
    return LoadedHead(_build(config, saved.tensors, path), DEFAULT_LAYER_MIX, path, saved.info)


def _check_same_task(saved: TrainingCheckpoint, path: Path) -> None:
    """Name the task that the branches belong to, where strict loading would name a hundred tensors."""
    branches = {name.split(".")[0] for name in saved.tensors if name.startswith("branch_")}
    for task, names in TASK_SCORES.items():
        if task != saved.task and branches == set(map(branch_name, names)):
            raise WeightsError(f"{path}: says that its task is {saved.task!r}, but holds the branches of task {task!r}")


def _load_hub(path: Path) -> LoadedHead:
    config_path = path.with_name("config.json")
    fields = read_json(config_path)
    raise_if_faulty(config_path, deviations(fields, HUB_FIXED_FIELDS))
    tensors = {name: tensor for name, tensor in read_tensors(path).items() if not name.startswith("mert.")}
    mix = {name: tensors.pop(name) for name in sorted(tensors) if name.startswith("aggregator.")}
    tensors = _unprefixed(tensors)
    config = attempt(_hub_config_of, fields, tensors, path=config_path)
    layer_mix = attempt(_mix_of_tensors, mix, path=path) if mix else DEFAULT_LAYER_MIX
    return LoadedHead(_build(config, tensors, path), layer_mix, path, info_of(fields, INFO_KEYS))


#: The loader of each layout, by the name of its file.
LAYOUTS: dict[str, Callable[[Path], LoadedHead]] = {
    HEAD_FILE: _load_own,
    "best_model.pt": _load_training,
    "pytorch_model.bin": _load_hub,  # with config.json beside it
}


def _layout_of(path: Path) -> Callable[[Path], LoadedHead]:
    """The layout of a file of any name, by its suffix."""
    for name, load in LAYOUTS.items():
        if path.suffix == Path(name).suffix:
            return load
    raise WeightsError(f"{path}: is none of {', '.join(LAYOUTS)}")


def _build(config: HeadConfig, tensors: Tensors, path: Path) -> ApexHead:
    return load_strictly(lambda: ApexHead(config), tensors, path)


def _parse_header(about: dict[str, Any]) -> tuple[HeadConfig, LayerMix, Info]:
    config, layer_mix = _with_tuples(about["config"]), _with_tuples(about["layer_mix"])
    return HeadConfig(**config), LayerMix(**layer_mix), info_of(about["info"], about["info"])


def _config_of(tensors: Tensors, task: str, n_shared: int) -> HeadConfig:
    """The sizes that the tensors show; for a missing tensor the published one, so that loading says what is missing."""

    def size(name: str, axis: int, published: int) -> int:
        tensor = tensors.get(f"{name}.block.0.weight")
        return tensor.shape[axis] if tensor is not None and tensor.ndim == 2 else published

    return HeadConfig(
        task=task,
        input_dim=size("shared.0", 1, EMBEDDING_DIM),
        shared_dims=tuple(size(f"shared.{i}", 0, dim) for i, dim in enumerate(SHARED_DIMS[n_shared])),
        branch_dims=tuple(size(f"branch_score_streams.branch.{i}", 0, dim) for i, dim in enumerate(BRANCH_DIMS)),
    )


def _hub_config_of(fields: dict[str, Any], tensors: Tensors) -> HeadConfig:
    declared = _with_tuples(fields)
    return replace(
        _config_of(tensors, "full", 2), **{name: declared[name] for name in HUB_SIZE_FIELDS if name in declared}
    )


def _with_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _unprefixed(tensors: Tensors) -> Tensors:
    """Remove the prefix that all names share. Whether the names are right then is checked by strict loading."""
    anchor = "shared.0.block.0.weight"
    prefix = next((name.removesuffix(anchor) for name in tensors if name.endswith(anchor)), "")
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _mix_of_tensors(tensors: Tensors) -> LayerMix:
    """The layer mix in the hub's `aggregator.*.weight` and `aggregator.*.bias`, those of a Conv1d(4, 1, 1)."""
    by_kind = {name.rpartition(".")[2]: tensor for name, tensor in tensors.items()}
    if len(tensors) != 2 or by_kind.keys() != {"weight", "bias"}:
        raise ValueError(f"{', '.join(tensors)} are not one weight and one bias")
    return LayerMix(tuple(by_kind["weight"].flatten().tolist()), by_kind["bias"].item())
