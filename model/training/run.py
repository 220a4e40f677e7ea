"""A run: the folder that training writes, to be resumed, evaluated and served from.

config.json        the condition and how it is trained
checkpoint.pt      the state of training; replaced after each epoch
metrics.jsonl      a line an epoch: losses, the error of each task, σ and weight of each task
events.out.tfevents.*   the same for TensorBoard
curves.png         learning curves;  tasks.png  those of each task;  sigmas.png  σ, where it is learnt
apex.safetensors   the head of the best epoch, ready to be served
result.json        once it is over: the best epoch and its numbers
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes

from model.files import atomic_write, write_json, write_text
from model.networks.checkpoint import Info, attempt, read_json
from model.networks.head import DEFAULT_LAYER_MIX, LayerMix
from model.networks.head_formats import HEAD_FILE, save_head
from model.reports import plots
from model.training.embeddings import Packed, fingerprint, pack_splits
from model.training.tables import DataError
from model.training.trainer import Record, TrainConfig, Trainer

CONFIG, CHECKPOINT, METRICS, RESULT = "config.json", "checkpoint.pt", "metrics.jsonl", "result.json"
PACKED = ".packed"

#: Called after each batch with (epoch, batches done, batches in all, None), after each epoch with its record.
OnProgress = Callable[[int, int, int, Record | None], None]


def no_progress(_epoch: int, _done: int, _total: int, _record: Record | None) -> None:
    """A progress hook that does nothing."""


def train(
    data: Path, out: Path, config: TrainConfig, *, device: str = "cpu", on_progress: OnProgress = no_progress
) -> Record:
    """Train a head on a folder of embeddings; return what `result.json` holds.

    Resumes an interrupted call with the same arguments, and does nothing when the run is finished.
    Raises DataError for data or a folder that do not fit.
    """
    if (result := finished(out, config, data)) is not None:
        return result
    packed = out / PACKED
    try:
        splits = pack_splits(data, packed, task=config.task, mode=config.mode)
        return train_packed(
            splits["train"], splits["val"], out, config, data=data, device=device, on_progress=on_progress
        )
    finally:
        shutil.rmtree(packed, ignore_errors=True)


def finished(out: Path, config: TrainConfig, data: Path) -> Record | None:
    """The result of a finished run, else None. Creates the folder. Raises DataError for the folder of another run."""
    about = asdict(config) | {"data": str(data.resolve()), "data_fingerprint": fingerprint(data)}
    out.mkdir(parents=True, exist_ok=True)
    if (out / CONFIG).exists():
        _check_same(read_json(out / CONFIG), about, out / CONFIG)
    write_json(out / CONFIG, about)
    if not (out / RESULT).exists():
        return None
    if not (out / HEAD_FILE).exists():
        raise DataError(f"{out}: the run is finished, but its {HEAD_FILE} is missing; remove the folder to train again")
    return read_json(out / RESULT)


def train_packed(
    train: Packed,
    val: Packed,
    out: Path,
    config: TrainConfig,
    *,
    data: Path,
    device: str = "cpu",
    on_progress: OnProgress = no_progress,
) -> Record:
    """`train` on splits that are packed already."""
    if (result := finished(out, config, data)) is not None:
        return result
    trainer = Trainer(config, train, val, device)
    if (out / CHECKPOINT).exists():
        attempt(_restore, trainer, out / CHECKPOINT, device, path=out / CHECKPOINT)
    with _summary_writer(out, trainer.epoch) as events:
        while not trainer.is_done:
            record = trainer.run_epoch(lambda done, total: on_progress(trainer.epoch, done, total, None))
            _save(trainer, out, train.provenance)
            _log(record, events)
            on_progress(trainer.epoch, 1, 1, record)
    return _finish(trainer, out, train)


def _restore(trainer: Trainer, path: Path, device: str) -> None:
    trainer.restore(torch.load(path, map_location=device, weights_only=True))


def layer_mix(provenance: Any) -> LayerMix:
    """The layer mix that embeddings were made with; the default for the reference's files, which name none."""
    mix = provenance.get("layer_mix")
    return LayerMix(tuple(mix["weights"]), mix["bias"]) if mix else DEFAULT_LAYER_MIX


def _check_same(found: dict[str, Any], wanted: dict[str, Any], path: Path) -> None:
    for name, value in wanted.items():
        if found.get(name) != value:
            differs = f"{name} is {found.get(name)!r}, not {value!r}"
            if name == "data_fingerprint":
                differs = f"the embeddings in {wanted['data']} have changed since"
            raise DataError(
                f"{path}: this folder holds another run: {differs}; choose another folder, or remove this one"
            )


def _save(trainer: Trainer, out: Path, provenance: Any) -> None:
    # The head before the checkpoint: a run that is killed between the two does the epoch again and saves the same head.
    if trainer.is_best:
        info: Info = trainer.info() | ({"encoder": provenance["encoder"]} if "encoder" in provenance else {})
        save_head(out / HEAD_FILE, trainer.head, layer_mix(provenance), info)
        _copy_mode(out / HEAD_FILE, like=out / CONFIG)
    with atomic_write(out / CHECKPOINT) as partial:
        torch.save(trainer.state(), partial)
    # Written anew: a run that was interrupted after this and before its checkpoint would add the same line twice.
    write_text(out / METRICS, "".join(json.dumps(line, allow_nan=False) + "\n" for line in trainer.history))


def _copy_mode(path: Path, like: Path) -> None:
    """Give a file the permissions of another: safetensors writes files that only their owner can read."""
    path.chmod(like.stat().st_mode)


def _finish(trainer: Trainer, out: Path, train: Packed) -> Record:
    plot_history(trainer.history, out)
    best = trainer.best
    result = {"best_epoch": trainer.best_epoch, "epochs": trainer.epoch, "songs": len(train.songs)}
    result |= {name: best[name] for name in ("train_loss", "val_loss", "train_mse", "val_mse", "sigma", "weight")}
    write_json(out / RESULT, result)
    return result


def plot_history(history: list[Record], out: Path) -> None:
    """Write the learning curves of a history as PNG."""
    epochs = [record["epoch"] for record in history]
    names = list(history[0]["val_mse"])

    def losses(axes: Axes, _title: str) -> None:
        plots.curves(axes, epochs, {name: [r[f"{name}_loss"] for r in history] for name in ("train", "val")}, "loss")

    def errors(axes: Axes, name: str) -> None:
        plots.curves(
            axes, epochs, {part: [r[f"{part}_mse"][name] for r in history] for part in ("train", "val")}, "MSE"
        )

    def sigmas(axes: Axes, name: str) -> None:
        plots.curves(axes, epochs, {"σ": [r["sigma"][name] for r in history]}, "σ")

    figures = {"curves": plots.panels(["combined loss"], losses), "tasks": plots.panels(names, errors)}
    if history[0]["sigma"]:
        figures["sigmas"] = plots.panels(names, sigmas)
    for name, figure in figures.items():
        (out / f"{name}.png").write_bytes(plots.png(figure))


def _summary_writer(out: Path, epoch: int) -> Any:
    # Imported here: TensorBoard takes two seconds, which only a run should cost.
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(out), purge_step=epoch + 1)


def _log(record: Record, events: Any) -> None:
    step = record["epoch"]
    for name in ("learning_rate", "train_loss", "val_loss"):
        events.add_scalar(name, record[name], step)
    for group in ("train_mse", "val_mse", "sigma", "weight"):
        for task, value in (record[group] or {}).items():
            events.add_scalar(f"{group}/{task}", value, step)
