"""A head trained on random embeddings, on the device and on the CPU."""

import time
from collections.abc import Iterator
from functools import partial

from benchmarks.gpu.part import Row, Setting, Task
from model.training.embeddings import pack_splits
from model.training.run import train_packed
from model.training.trainer import TrainConfig


def tasks(setting: Setting) -> Iterator[Task]:
    yield Task("a run on this device", partial(_rows, setting, setting.device))
    yield Task("the same on the CPU", partial(_rows, setting, "cpu"), needs_device=True)


def _rows(setting: Setting, device: str) -> Iterator[Row]:
    from benchmarks.training import write_split

    n_songs, epochs = (50_000, 4) if setting.on_device else (300, 1)
    folder = setting.folder / "training"
    if not folder.exists():
        for seed, (split, size) in enumerate({"train": n_songs, "val": n_songs // 10}.items()):
            write_split(folder / split, size, seed)
    config = TrainConfig(epochs=epochs)
    splits = pack_splits(folder, setting.folder / f"packed-{device}", task=config.task, mode=config.mode)
    times: list[float] = [time.monotonic()]
    result = train_packed(
        splits["train"],
        splits["val"],
        setting.folder / f"run-{device}",
        config,
        data=folder,
        device=device,
        on_progress=lambda *now: times.append(time.monotonic()) if now[3] else None,
    )
    per_epoch = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    yield {"device": device, "songs": n_songs, "s an epoch": min(per_epoch), "val_loss": result["val_loss"]}
