"""All 24 conditions on one set of embeddings, as many at a time as there are cores, and one table of how they did."""

import csv
import io
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from model.domain import TASK_SCORES
from model.files import write_json, write_text
from model.networks.checkpoint import MODES
from model.networks.head import SHARED_DIMS
from model.networks.head_formats import load_head
from model.processors import usable_cores
from model.reports import plots
from model.reports.html import Cell, Report
from model.training.embeddings import open_packed, pack_splits
from model.training.losses import LOSSES
from model.training.metrics import Measures, Pairs
from model.training.ray_session import ray_session
from model.training.run import PACKED, layer_mix, train_packed
from model.training.trainer import TrainConfig, predict

N_RESAMPLES = 200

#: Called after each condition with its name, how many are done, and how many there are.
OnProgress = Callable[[str, int, int], None]
Result = dict[str, Any]


def conditions(base: TrainConfig, tasks: Iterable[str] = tuple(TASK_SCORES)) -> dict[str, TrainConfig]:
    """The conditions by name, such as song-full-uncertainty-2; all else as in the base."""
    choices = product(MODES, tasks, LOSSES, SHARED_DIMS)
    return {
        f"{mode}-{task}-{loss}-{shared}": replace(base, mode=mode, task=task, loss=loss, shared=shared)
        for mode, task, loss, shared in choices
    }


def sweep(
    data: Path,
    out: Path,
    base: TrainConfig,
    *,
    device: str = "cpu",
    tasks: Iterable[str] = tuple(TASK_SCORES),
    on_progress: OnProgress = lambda _name, _done, _total: None,
) -> dict[str, Result]:
    """Train every condition in out/{condition} and measure it on the test split, or on val where there is none.

    Conditions that are done already are not trained again. Raises DataError as training does.
    """
    configs = conditions(base, tasks)
    try:
        largest_task = max((config.task for config in configs.values()), key=lambda task: len(TASK_SCORES[task]))
        held_out = _pack_all(data, out / PACKED, task=largest_task)
        results = {}
        for name, result in _trained(configs, data, out, device):
            results[name] = result
            on_progress(name, len(results), len(configs))
    finally:
        shutil.rmtree(out / PACKED, ignore_errors=True)
    results = {name: results[name] for name in configs}
    write(results, out, held_out)
    return results


def write(results: Mapping[str, Result], out: Path, held_out: str) -> None:
    """Write results.json, table.csv, spearman.png and report.html."""
    write_json(out / "results.json", {"measured_on": held_out, "conditions": results})
    header, rows = table(results)
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    write_text(out / "table.csv", text.getvalue())
    page = Report("Sweep")
    page.text(f"{len(results)} conditions, measured on the songs of {held_out}. Mean Spearman correlation per group.")
    caption = "Mean Spearman over the popularity and over the aesthetic scores, with 95 % intervals."
    page.figure(figure := _figure(results), caption)
    page.table(header, rows)
    page.write(out / "report.html")
    (out / "spearman.png").write_bytes(plots.png(figure))


def table(results: Mapping[str, Result]) -> tuple[list[str], list[list[Cell]]]:
    """A row a condition, the best popularity first: Spearman by score, then the epoch and the loss."""
    names = TASK_SCORES["full"]
    order = sorted(results, key=lambda name: -(_mean(results[name], TASK_SCORES["popularity"]) or -1))
    rows: list[list[Cell]] = [
        [name, *(results[name]["tasks"].get(task, {}).get("spearman") for task in names)]
        + [results[name]["best_epoch"], results[name]["val_loss"]]
        for name in order
    ]
    return ["condition", *names, "best epoch", "val loss"], rows


def _pack_all(data: Path, folder: Path, *, task: str) -> str:
    """Pack every split in both modes; return the name of the split to measure on."""
    held_out = "test" if any((data / name).exists() for name in ("test", "test.parquet")) else "val"
    for mode in MODES:
        pack_splits(data, folder / mode, tuple(dict.fromkeys(("train", "val", held_out))), task=task, mode=mode)
    return held_out


def _trained(configs: Mapping[str, TrainConfig], data: Path, out: Path, device: str) -> Iterator[tuple[str, Result]]:
    """Each condition with its result, in the order in which they are done."""
    with ray_session() as ray:
        options = {"num_gpus": 0.25} if device.startswith("cuda") else {"num_cpus": 1 if usable_cores() > 1 else 2}
        run = ray.remote(**options)(_train_one)
        waiting = {run.remote(name, config, data, out, device): name for name, config in configs.items()}
        while waiting:
            (ready, *_), _ = ray.wait(list(waiting), num_returns=1)
            yield waiting.pop(ready), ray.get(ready)


def _train_one(name: str, config: TrainConfig, data: Path, out: Path, device: str) -> Result:
    """A Ray task: one condition on one core."""
    torch.set_num_threads(1)
    folder = out / PACKED / config.mode
    train, val = open_packed(folder / "train"), open_packed(folder / "val")
    held_out = open_packed(folder / "test") if (folder / "test").exists() else val
    result = train_packed(train, val, out / name, config, data=data, device=device)
    head = load_head(out / name)
    if layer_mix(held_out.provenance) != head.layer_mix:
        raise ValueError(f"{name}: the head and the embeddings have different layer mixes")
    predicted = predict(head.head.to(device), held_out, device)
    truth = held_out.songs.subset(config.names).astype(np.float64)
    tasks: dict[str, Measures] = {
        task: Pairs(truth[:, index], predicted[task]).measure_with_intervals(N_RESAMPLES)
        for index, task in enumerate(config.names)
    }
    return result | {"tasks": tasks}


def _mean(result: Result, names: Iterable[str], key: str = "spearman", bound: int | None = None) -> float | None:
    """The mean of a measure over those of the named tasks that the condition has."""
    found = [result["tasks"][name][key] for name in names if name in result["tasks"]]
    values = [value if bound is None else value[bound] for value in found]
    return float(np.mean(values)) if values and None not in values else None


def _triple(result: Result, names: Iterable[str]) -> tuple[float, float, float] | None:
    values = [_mean(result, names), *(_mean(result, names, "spearman_ci95", bound) for bound in (0, 1))]
    return None if None in values else tuple(values)  # type: ignore[return-value]


def _figure(results: Mapping[str, Result]) -> Figure:
    names = [str(row[0]) for row in table(results)[1]]
    popularity = TASK_SCORES["popularity"]
    groups = {"popularity": popularity, "aesthetics": TASK_SCORES["full"][len(popularity) :]}
    return plots.interval_chart(
        names, {group: [_triple(results[name], tasks) for name in names] for group, tasks in groups.items()}, "Spearman"
    )
