"""Training of a head on embeddings: epochs, early stopping, and a state to resume from.

Knows nothing of audio, and writes no files: `model.training.run` does.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils import clip_grad_norm_

from model.domain import TASK_SCORES
from model.networks.checkpoint import MODES, Info
from model.networks.head import SHARED_DIMS, ApexHead, HeadConfig
from model.training.embeddings import Packed
from model.training.losses import LOSSES, task_errors
from model.training.tables import DataError

#: Rows in one forward pass without gradients; bounds memory and changes no number.
INFERENCE_ROWS = 8_192

#: Called after each batch with the batches done and the batches of the epoch.
OnBatch = Callable[[int, int], None]
Record = dict[str, Any]


@dataclass(frozen=True)
class TrainConfig:
    """One of the 24 conditions, and how it is trained. The defaults are the reference's best."""

    mode: str = "song"  # song: a row is the mean of a song's segments; segment: a row is a segment
    task: str = "full"
    loss: str = "uncertainty"
    shared: int = 2
    epochs: int = 50  # also the length of the cosine
    batch_size: int = 512
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    patience: int = 20  # epochs without a lower validation loss before the run ends
    seed: int = 42

    def __post_init__(self) -> None:
        choices = {"mode": MODES, "task": tuple(TASK_SCORES), "loss": tuple(LOSSES), "shared": tuple(SHARED_DIMS)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise DataError(f"{name} is {getattr(self, name)!r}, not one of {', '.join(map(str, allowed))}")
        for name in ("epochs", "batch_size", "patience", "learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise DataError(f"{name} is {getattr(self, name)}, but must be above 0")
        if not 0 <= self.weight_decay < np.inf:
            raise DataError(f"weight_decay is {self.weight_decay}, but must be 0 or more")

    @property
    def names(self) -> tuple[str, ...]:
        return TASK_SCORES[self.task]


class Trainer:
    """Trains a head. `state` and `restore` carry everything that later epochs depend on.

    The same data, config and number of threads give the same head, interrupted or not: the random numbers of an epoch
    depend on the seed and the number of the epoch alone.
    """

    def __init__(self, config: TrainConfig, train: Packed, val: Packed, device: str = "cpu") -> None:
        if len(train.vectors) < 2:
            raise DataError(f"{len(train.vectors)} row is too little to train on: there must be two or more")
        self.config = config
        self.epoch = 0
        self.best_epoch = 0
        self.history: list[Record] = []
        self._train, self._val, self._device = train, val, device
        self._targets = torch.from_numpy(train.songs.subset(config.names)).to(device)
        with _seeded(config.seed, 0, device):
            self.head = ApexHead(HeadConfig(config.task, train.dim, SHARED_DIMS[config.shared])).to(device)
            self._loss = LOSSES[config.loss](config.names).to(device)
        parameters = [*self.head.parameters(), *self._loss.parameters()]
        self._optimizer = torch.optim.AdamW(
            parameters, config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimizer, config.epochs)

    @property
    def is_done(self) -> bool:
        """Whether all epochs are over, or the validation loss has not fallen for `patience` of them."""
        return self.epoch >= self.config.epochs or self.epoch - self.best_epoch >= self.config.patience

    @property
    def is_best(self) -> bool:
        """Whether the head, as it is now, has the lowest validation loss so far."""
        return self.epoch == self.best_epoch

    @property
    def best(self) -> Record:
        """The record of the epoch with the lowest validation loss."""
        return self.history[self.best_epoch - 1]

    def run_epoch(self, on_batch: OnBatch | None = None) -> Record:
        """Train for one epoch, measure it, and return its record, ready for JSON."""
        self.epoch += 1
        rate = float(self._schedule.get_last_lr()[0])
        with _seeded(self.config.seed, self.epoch, self._device):
            train_loss, train_errors = self._train_once(on_batch)
        self._schedule.step()
        val_loss, val_errors = self._validate()
        record = self._record(rate, train_loss, train_errors, val_loss, val_errors)
        _check_finite(record)
        self.history.append(record)
        if self.epoch == 1 or val_loss < self.best["val_loss"]:
            self.best_epoch = self.epoch
        return record

    def state(self) -> dict[str, Any]:
        """Everything that later epochs depend on, as tensors and plain values."""
        parts = {name: deepcopy(part.state_dict()) for name, part in self._parts().items()}
        return parts | {"epoch": self.epoch, "best_epoch": self.best_epoch, "history": deepcopy(self.history)}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the state of another trainer of the same config and data."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.epoch, self.best_epoch, self.history = state["epoch"], state["best_epoch"], state["history"]

    def info(self) -> Info:
        """Facts about the training so far, to be stored beside the head."""
        record, config = self.history[-1], self.config
        info: Info = {"epoch": self.epoch, "loss": config.loss, "mode": config.mode}
        return info | {"train_loss": record["train_loss"], "val_loss": record["val_loss"]}

    def _parts(self) -> dict[str, Any]:
        return {"head": self.head, "loss": self._loss, "optimizer": self._optimizer, "schedule": self._schedule}

    def _train_once(self, on_batch: OnBatch | None) -> tuple[float, torch.Tensor]:
        self.head.train()
        total, errors = 0.0, torch.zeros(len(self.config.names), device=self._device)
        order = np.random.default_rng((self.config.seed, self.epoch)).permutation(len(self._train.vectors))
        parts = batches(order, self.config.batch_size)
        for number, rows in enumerate(parts, start=1):
            loss, batch_errors = self._step(rows)
            total += loss * len(rows) / len(order)
            errors += batch_errors * len(rows) / len(order)
            if on_batch is not None:
                on_batch(number, len(parts))
        return total, errors

    def _step(self, rows: NDArray[np.int64]) -> tuple[float, torch.Tensor]:
        rows = np.sort(rows)  # in the order of the file, which the memory map reads best
        vectors = torch.from_numpy(self._train.vectors[rows]).to(self._device)
        errors = task_errors(self.head(vectors), self._targets[self._train.song_of[rows]])
        loss = self._loss(errors)
        self._optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_([*self.head.parameters(), *self._loss.parameters()], self.config.clip_norm)
        self._optimizer.step()
        return loss.item(), errors.detach()

    def _validate(self) -> tuple[float, torch.Tensor]:
        """The combined loss and the tasks' errors over the songs of the validation split, each song once."""
        predicted = predict(self.head, self._val, self._device)
        targets = self._val.songs.subset(self.config.names).astype(np.float64)
        errors = torch.from_numpy(np.square(np.stack(list(predicted.values()), axis=1) - targets).mean(axis=0))
        with torch.inference_mode():
            return self._loss(errors.float().to(self._device)).item(), errors

    def _record(
        self, rate: float, train_loss: float, train_errors: torch.Tensor, val_loss: float, val_errors: torch.Tensor
    ) -> Record:
        names = self.config.names
        sigmas = self._loss.sigmas()
        return {
            "epoch": self.epoch,
            "learning_rate": rate,
            "train_loss": train_loss,
            "val_loss": val_loss,
            "train_mse": dict(zip(names, train_errors.tolist(), strict=True)),
            "val_mse": dict(zip(names, val_errors.tolist(), strict=True)),
            "sigma": dict(zip(names, sigmas, strict=True)) if sigmas else None,
            "weight": dict(zip(names, self._loss.task_weights(), strict=True)),
        }


def batches(order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """The rows cut into batches; a last one of a single row, which BatchNorm cannot take, goes with the one before."""
    n_batches = max(1, -(-len(order) // size))
    if n_batches > 1 and len(order) % size == 1:
        n_batches -= 1
    cuts = [number * size for number in range(1, n_batches)]
    return np.split(order, cuts)


def predict(head: ApexHead, data: Packed, device: str = "cpu") -> dict[str, NDArray[np.float64]]:
    """The scores of each song: the plain mean of the predictions for its rows. Leaves the head in eval mode.

    returns one (n_songs,) a score, in the order of data.songs
    """
    head.eval()
    counts = np.bincount(data.song_of, minlength=len(data.songs))
    sums = {name: np.zeros(len(data.songs)) for name in head.config.score_names}
    for songs, scores in _predictions(head, data, device):
        for name, values in scores.items():
            np.add.at(sums[name], songs, values.double().cpu().numpy())
    return {name: values / counts for name, values in sums.items()}


def _predictions(
    head: ApexHead, data: Packed, device: str
) -> Iterator[tuple[NDArray[np.int64], dict[str, torch.Tensor]]]:
    for start in range(0, len(data.vectors), INFERENCE_ROWS):
        part = slice(start, start + INFERENCE_ROWS)
        with torch.inference_mode():
            yield data.song_of[part], head(torch.from_numpy(np.array(data.vectors[part])).to(device))


@contextmanager
def _seeded(seed: int, epoch: int, device: str) -> Iterator[None]:
    """Seed torch by seed and epoch within the block; its random state outside does not change."""
    derived_seed = int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0] >> 1)
    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        torch.random.manual_seed(derived_seed)
        yield


def _check_finite(record: Record) -> None:
    for name in ("train_loss", "val_loss"):
        if not np.isfinite(record[name]):
            raise DataError(f"the {name} of epoch {record['epoch']} is not finite: try a lower learning rate")
