"""The Music Arena experiment as a page and as figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from scipy.stats import spearmanr

from model.arena.experiment import FEATURE_SETS, FOLDS, LEADERBOARD, MEASURES, SUBSETS, Experiment, PredictorResult
from model.arena.leaderboard import Rating
from model.files import write_json
from model.reports import plots
from model.reports.html import Cell, Report, interval_text
from model.training.metrics import Measures

AUC_OF_CHANCE = 0.5


def write(experiment: Experiment, directory: Path) -> None:
    """Write results.json, report.html and the figures into a directory, created if missing."""
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "results.json", experiment.as_json())
    report(experiment).write(directory / "report.html")
    for name, figure in figures(experiment).items():
        (directory / f"{name}.png").write_bytes(plots.png(figure))


def figures(experiment: Experiment) -> dict[str, Figure]:
    """AUC by model and kind of folds, with and without the aesthetic features; and the leaderboards."""
    found = {"auc": _auc(experiment.fitted)}
    for subset, boards in experiment.leaderboards.items():
        if any(boards.values()):
            found[f"leaderboard-{subset}"] = _leaderboard(boards)
    return found


def report(experiment: Experiment) -> Report:
    """The experiment as a page."""
    page = Report("Music Arena: do the scores say what listeners prefer?")
    facts = experiment.as_json()
    counted = ", ".join(f"{name} {count:,}" for name, count in facts["preferences"].items())
    page.text(
        f"{facts['n_battles']:,} battles ({counted}). Models learn from A and B alone: a tie and BOTH_BAD have no "
        "winner. Every prediction is out of fold; intervals are 95 % bootstrap intervals over battles."
    )
    page.heading("With and without the aesthetic scores")
    page.text(headline(experiment.fitted))
    page.figure(_auc(experiment.fitted), "AUC of each model. Dashed: chance.")
    page.table(*_side_by_side(experiment.fitted))
    page.heading("Random folds and folds that keep things together")
    page.text(
        "Random folds have the same pairs of systems, and the same prompts, on both sides. Where the grouped folds are "
        "worse, that much of the result was recognition."
    )
    page.table(*_leakage(experiment.fitted))
    page.heading("Single scores, nothing learnt")
    page.text("The clip with the higher score is called the winner: an AUC below 0.5 means that listeners disagree.")
    page.table(*_all_measures(experiment.rules))
    page.heading("All measures")
    page.table(*_all_measures(experiment.fitted))
    for subset, boards in experiment.leaderboards.items():
        _add_leaderboard(page, subset, boards)
    return page


def headline(fitted: Sequence[PredictorResult]) -> str:
    """In how many of the like cases the aesthetic scores raise the AUC."""
    with_them, without = (_by_case(fitted, name) for name in FEATURE_SETS)
    cases = with_them.keys() & without.keys()
    if not cases:
        return "The clips have no aesthetic scores: there is nothing to set side by side."
    better = sum(_value(with_them[case], "auc") > _value(without[case], "auc") for case in cases)
    return f"The aesthetic features raise the AUC in {better} of {len(cases)} cases of a model and a kind of folds."


def _by_case(fitted: Sequence[PredictorResult], feature_set: str) -> dict[tuple[str, str], PredictorResult]:
    return {(result.predictor, result.folds): result for result in fitted if result.features == feature_set}


def _value(result: PredictorResult, name: str, subset: str = "overall") -> float:
    return result.measures[subset][name] or 0.0


def _side_by_side(fitted: Sequence[PredictorResult]) -> tuple[list[str], list[list[Cell]]]:
    by_set = {name: _by_case(fitted, name) for name in FEATURE_SETS}
    cases = list(dict.fromkeys((j.predictor, j.folds) for j in fitted))
    columns = [(subset, name) for subset in SUBSETS for name in FEATURE_SETS]
    rows: list[list[Cell]] = [
        [", ".join(case), *(_cell(by_set[name].get(case), "auc", subset) for subset, name in columns)] for case in cases
    ]
    return ["AUC of", *(f"{subset}, {name.split()[0]}" for subset, name in columns)], rows


def _leakage(fitted: Sequence[PredictorResult]) -> tuple[list[str], list[list[Cell]]]:
    found = {(j.predictor, j.features, j.folds): j for j in fitted}
    kinds = list(dict.fromkeys((j.predictor, j.features) for j in fitted))
    rows: list[list[Cell]] = [
        [", ".join(kind), *(_cell(found.get((*kind, folds)), "auc") for folds in FOLDS)] for kind in kinds
    ]
    return ["AUC overall of", *FOLDS], rows


def _all_measures(results: Sequence[PredictorResult]) -> tuple[list[str], list[list[Cell]]]:
    rows: list[list[Cell]] = [
        [", ".join((each.predictor, each.features, each.folds)), subset, each.measures[subset]["n"]]
        + [_interval(each.measures[subset], name) for name in MEASURES]
        for each in results
        for subset in each.measures
    ]
    return ["predictor, features, folds", "battles", "n", *MEASURES], rows


def _cell(result: PredictorResult | None, name: str, subset: str = "overall") -> Cell:
    return _interval(result.measures[subset], name) if result and subset in result.measures else None


def _interval(measures: Measures, name: str) -> str:
    return interval_text(measures[name], measures[f"{name}_ci95"])


def _auc(fitted: Sequence[PredictorResult]) -> Figure:
    cases = list(dict.fromkeys((j.predictor, j.folds) for j in fitted))
    groups = {
        name: [_triple(by_case.get(case)) for case in cases]
        for name in FEATURE_SETS
        if (by_case := _by_case(fitted, name))
    }
    figure = plots.interval_chart([f"{predictor}, {folds}" for predictor, folds in cases], groups, "AUC, overall")
    return plots.reference_line(figure, AUC_OF_CHANCE)


def _triple(result: PredictorResult | None) -> tuple[float, float, float] | None:
    if result is None or result.measures["overall"]["auc"] is None:
        return None
    low, high = result.measures["overall"]["auc_ci95"]
    return result.measures["overall"]["auc"], low, high


def _leaderboard(boards: Mapping[str, list[Rating]]) -> Figure:
    names = [rating.system for rating in boards.get("human", [])]
    groups = {}
    for kind, ratings in boards.items():
        found = {rating.system: (rating.rating, rating.low, rating.high) for rating in ratings}
        groups[kind] = [found.get(name) for name in names]
    return plots.interval_chart(names, groups, "Bradley-Terry rating")


def _add_leaderboard(page: Report, subset: str, boards: Mapping[str, list[Rating]]) -> None:
    page.heading(f"Leaderboard, {subset}")
    human, predicted = ({r.system: r for r in boards.get(kind, [])} for kind in ("human", "predicted"))
    if not human:
        page.text("No system has enough votes.")
        return
    both = [name for name in human if name in predicted]
    if len(both) > 2:
        rho = spearmanr([human[name].rating for name in both], [predicted[name].rating for name in both]).statistic
        page.text(f"Spearman correlation of the two rankings: {rho:.2f} over {len(both)} systems.")
    page.figure(_leaderboard(boards), f"By listeners, and by {', '.join(LEADERBOARD)}.")
    rows: list[list[Cell]] = [
        [name, rating.n_votes, _rating(rating), _rating(predicted.get(name))] for name, rating in human.items()
    ]
    page.table(["system", "votes", "by listeners", "predicted"], rows)


def _rating(rating: Rating | None) -> str | None:
    return f"{rating.rating:.0f} [{rating.low:.0f}, {rating.high:.0f}]" if rating else None
