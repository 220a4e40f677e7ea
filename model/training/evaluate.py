"""Evaluation of a head on songs that it was not trained on, beside baselines."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.arrays import Floats
from model.domain import SCORE_RANGES
from model.files import write_json
from model.networks.head_formats import LoadedHead, load_head
from model.reports import plots
from model.reports.html import Cell, Report, interval_text, shown
from model.temporary import temporary_directory
from model.training import baselines
from model.training.embeddings import Packed, Songs, check_no_overlap, pack
from model.training.metrics import MEASURES, Measures, Pairs
from model.training.run import layer_mix
from model.training.tables import DataError, write_parquet
from model.training.trainer import predict

N_EXTREMES = 10
#: The name of all platforms together.
ALL = "all"

#: Called after each measured task with how many are done, and how many there are.
OnProgress = Callable[[int, int], None]
Predictions = Mapping[str, Floats]  # (n_songs,) each, by the name of the score


@dataclass(frozen=True)
class Evaluation:
    """The predictions of a head and of baselines for the songs of a split, with their measures."""

    head: LoadedHead
    songs: Songs
    predictors: Mapping[str, Predictions]  # "head" first, then the baselines
    measures: Mapping[str, Mapping[str, Mapping[str, Measures]]]  # by predictor, by platform or "all", by score

    @property
    def is_unseen(self) -> bool:
        """Whether the songs were checked not to be in the training split."""
        return len(self.predictors) > 1

    def as_json(self) -> dict[str, Any]:
        """What `metrics.json` holds."""
        head, *others = self.predictors
        return {
            "n_songs": len(self.songs),
            "head": {"path": str(self.head.path), "task": self.head.config.task, **self.head.info},
            "tasks": self.measures[head][ALL],
            "platforms": {name: tasks for name, tasks in self.measures[head].items() if name != ALL},
            "baselines": {name: self.measures[name][ALL] for name in others},
        }


def evaluate(
    run: Path,
    data: Path,
    *,
    train: Path | None = None,
    val: Path | None = None,
    device: str = "cpu",
    n_resamples: int = 1_000,
    on_progress: OnProgress = lambda _done, _total: None,
) -> Evaluation:
    """Evaluate the head of a run on a split.

    run        : a folder with apex.safetensors, best_model.pt or the hub's files, or one of these files
    data       : a folder of Parquet files, or one file
    train, val : splits that the baselines learn from; without `train` there are none
    Raises DataError for data that do not fit the head, WeightsError for a head that cannot be read.
    """
    head = load_head(run)
    with temporary_directory("evaluate") as folder:
        mode = str(head.info.get("mode", "song"))
        packed = pack(data, folder / "data", task=head.config.task, mode=mode)
        _check_fits(head, packed, data)
        predictors: dict[str, Predictions] = {"head": predict(head.head.to(device), packed, device)}
        if train:
            predictors |= _baselines(head.config.task, data, train, val or train, folder)
    measures = _measured(packed.songs, predictors, n_resamples, on_progress)
    return Evaluation(head, packed.songs, predictors, measures)


def write(evaluation: Evaluation, directory: Path) -> None:
    """Write metrics.json, predictions.parquet, report.html and its figures into a directory, created if missing."""
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "metrics.json", evaluation.as_json())
    write_parquet(directory / "predictions.parquet", _as_arrow(evaluation))
    drawn = figures(evaluation)
    report(evaluation, drawn).write(directory / "report.html")
    for name, figure in drawn.items():
        (directory / f"{name}.png").write_bytes(plots.png(figure))


def figures(evaluation: Evaluation) -> dict[str, Figure]:
    """Predictions against targets, and targets against predictions, a panel a score."""
    drawings = {"scatter": plots.scatter, "calibration": plots.calibration}
    return {name: plots.panels(evaluation.songs.names, _drawing(evaluation, draw)) for name, draw in drawings.items()}


def report(evaluation: Evaluation, drawn: Mapping[str, Figure]) -> Report:
    """The evaluation as a page."""
    head, songs = evaluation.head, evaluation.songs
    page = Report("Evaluation")
    trained = ", ".join(f"{name} {shown(value)}" for name, value in head.info.items())
    seen = "none of them in the training split" if evaluation.is_unseen else "not compared with the training split"
    page.text(f"{len(songs):,} songs, {seen}. Head: {head.path} (task {head.config.task}; {trained}).")
    page.text("Intervals are 95 % bootstrap intervals over songs.")
    page.heading("Head and baselines")
    page.text(baseline_summary(evaluation))
    page.table(*comparison(evaluation))
    page.heading("Predictions against targets")
    page.figure(drawn["scatter"], "On the line, both agree.")
    page.heading("Calibration")
    page.figure(
        drawn["calibration"],
        "Songs in tenths by prediction: below the line the head predicts too high, above it too low.",
    )
    page.heading("By platform")
    page.table(*_by_platform(evaluation))
    for name in head.config.score_names:
        page.heading(f"Highest and lowest by {name}")
        page.table(["song", "platform", "target", "prediction", "error"], _extremes(evaluation, name))
    return page


def _check_fits(head: LoadedHead, data: Packed, path: Path) -> None:
    if data.dim != head.config.input_dim:
        raise DataError(
            f"{path}: column 'segment_embedding', row 1: has {data.dim} values, but {head.path} takes "
            f"{head.config.input_dim}"
        )
    if data.provenance and layer_mix(data.provenance) != head.layer_mix:
        raise DataError(f"{path}: its embeddings were made with another layer mix than {head.path} was trained behind")


def _baselines(task: str, data: Path, train: Path, val: Path, folder: Path) -> dict[str, Predictions]:
    paths = {"train": train, "val": val, "test": data}
    splits = {name: pack(path, folder / name, task=task, mode="song") for name, path in paths.items()}
    for name in ("train", "val"):
        check_no_overlap(splits[name].songs, splits["test"].songs, data)
    ridge = baselines.Ridge(splits["train"])
    penalty = ridge.best_penalty(splits["val"])
    n_songs = len(splits["test"].songs)
    return {
        "mean": _by_name(np.tile(baselines.mean(splits["train"]), (n_songs, 1)), splits["test"]),
        f"ridge (λ = {penalty:g})": _by_name(ridge.predict(splits["test"], penalty), splits["test"]),
    }


def _by_name(predicted: Floats, data: Packed) -> Predictions:
    return {name: np.clip(predicted[:, index], *SCORE_RANGES[name]) for index, name in enumerate(data.songs.names)}


def _measured(
    songs: Songs, predictors: Mapping[str, Predictions], n_resamples: int, on_progress: OnProgress
) -> dict[str, dict[str, dict[str, Measures]]]:
    platforms = np.array(songs.platforms)
    groups = {ALL: np.ones(len(songs), bool)} | {name: platforms == name for name in sorted(set(songs.platforms))}
    jobs = [(p, g, name) for p in predictors for g in groups for name in songs.names]
    measures: dict[str, dict[str, dict[str, Measures]]] = {p: {g: {} for g in groups} for p in predictors}
    for done, (predictor, group, name) in enumerate(jobs, start=1):
        rows = groups[group]
        pairs = Pairs(songs.subset([name])[rows, 0].astype(np.float64), predictors[predictor][name][rows])
        measures[predictor][group][name] = pairs.measure_with_intervals(n_resamples)
        on_progress(done, len(jobs))
    return measures


def baseline_summary(evaluation: Evaluation) -> str:
    """Whether the head beats each baseline, in a sentence."""
    head, *others = evaluation.predictors
    if not others:
        return "No baselines: say with --train which embeddings they may learn from."
    n_better = {
        name: sum(
            evaluation.measures[head][ALL][task]["mse"] < evaluation.measures[name][ALL][task]["mse"]
            for task in evaluation.songs.names
        )
        for name in others
    }
    n_tasks = len(evaluation.songs.names)
    counts = ", than ".join(f"{name} in {n} of {n_tasks} tasks" for name, n in n_better.items())
    return f"The head has the lower MSE than {counts}."


def comparison(evaluation: Evaluation) -> tuple[list[str], list[list[Cell]]]:
    """Header and rows: each task by the head and by each baseline."""
    rows = [
        [f"{task}: {predictor}", *_cells(evaluation.measures[predictor][ALL][task])]
        for task in evaluation.songs.names
        for predictor in evaluation.predictors
    ]
    return ["task: predictor", *MEASURES], rows


def summary(evaluation: Evaluation) -> tuple[list[str], list[list[Cell]]]:
    """Header and rows that a terminal has room for: the errors side by side, and the head's rank correlation."""
    overall = {predictor: groups[ALL] for predictor, groups in evaluation.measures.items()}
    rows: list[list[Cell]] = [
        [task, *(overall[predictor][task]["mse"] for predictor in overall)]
        + [interval_text(overall["head"][task]["spearman"], overall["head"][task]["spearman_ci95"])]
        for task in evaluation.songs.names
    ]
    return ["score", *(f"MSE, {predictor}" for predictor in overall), "Spearman, head"], rows


def _by_platform(evaluation: Evaluation) -> tuple[list[str], list[list[Cell]]]:
    songs, platforms = evaluation.songs, [name for name in evaluation.measures["head"] if name != ALL]
    rows: list[list[Cell]] = [
        [f"{task}: {platform}", songs.platforms.count(platform), *_cells(evaluation.measures["head"][platform][task])]
        for task in songs.names
        for platform in platforms
    ]
    return ["task: platform", "songs", *MEASURES], rows


def _cells(measures: Measures) -> list[Cell]:
    return [interval_text(measures[name], measures[f"{name}_ci95"]) for name in MEASURES]


def _drawing(
    evaluation: Evaluation, draw: Callable[[Axes, Floats, Floats, tuple[float, float]], None]
) -> Callable[[Axes, str], None]:
    def panel(axes: Axes, name: str) -> None:
        truth = evaluation.songs.subset([name])[:, 0].astype(np.float64)
        draw(axes, truth, evaluation.predictors["head"][name], SCORE_RANGES[name])

    return panel


def _extremes(evaluation: Evaluation, name: str) -> list[list[Cell]]:
    songs, truth = evaluation.songs, evaluation.songs.subset([name])[:, 0]
    order = np.argsort(-truth, kind="stable")
    rows = order if len(order) <= 2 * N_EXTREMES else [*order[:N_EXTREMES], *order[-N_EXTREMES:]]
    predicted = evaluation.predictors["head"][name]
    return [
        [
            songs.ids[row],
            songs.platforms[row],
            float(truth[row]),
            float(predicted[row]),
            float(predicted[row] - truth[row]),
        ]
        for row in rows
    ]


def _as_arrow(evaluation: Evaluation) -> pa.Table:
    songs = evaluation.songs
    columns: dict[str, Any] = {"audio_id": songs.ids, "platform": songs.platforms}
    for name in songs.names:
        columns |= {name: songs.subset([name])[:, 0], f"{name}_predicted": evaluation.predictors["head"][name]}
    return pa.table(columns)
