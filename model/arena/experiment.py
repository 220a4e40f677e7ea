"""The out-of-distribution experiment: do scores say which of two clips listeners preferred in Music Arena?

Models are evaluated out of fold, with the notebook's random folds and with folds that keep a pair of systems, or a
prompt, together: where those are worse, random folds let the models recognise systems or prompts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.ensemble import AdaBoostClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from xgboost import XGBClassifier

from model.arena.battles import Battles, features, used
from model.arena.leaderboard import MIN_VOTES, Rating, rate
from model.arrays import Floats
from model.processors import usable_cores
from model.training.metrics import Measures, interval, mean_ranks, resample
from model.training.tables import DataError

SEED = 42
N_FOLDS = 10
MEASURES = ("auc", "f1", "accuracy")
MIN_BATTLES = 20

#: Every feature set, and whether it has the aesthetic scores.
FEATURE_SETS = {"with aesthetics": True, "without aesthetics": False}
#: What must stay together in a fold.
FOLDS: dict[str, Callable[[Battles], Sequence[str] | None]] = {
    "random": lambda _: None,
    "by system pair": lambda battles: battles.pairs,
    "by prompt": lambda battles: [prompt.strip().lower() for prompt in battles.prompts],
}
SUBSETS: dict[str, Callable[[Battles], NDArray[np.bool_]]] = {
    "overall": lambda battles: np.ones(len(battles), np.bool_),
    "instrumental": lambda battles: battles.is_instrumental,
    "vocal": lambda battles: ~battles.is_instrumental,
}
#: Model, features and folds of the predicted leaderboard: fixed beforehand, and without pairs seen in training.
LEADERBOARD = ("logistic regression", "with aesthetics", "by system pair")

#: Called after each fitted fold with how many are done, and how many there are.
OnProgress = Callable[[int, int], None]


def models() -> dict[str, Any]:
    """The notebook's models, not fitted."""
    svm = make_pipeline(StandardScaler(), SVC(class_weight="balanced", random_state=SEED))
    grid = {"svc__C": [0.01, 0.1, 1.0, 10.0], "svc__kernel": ["linear", "rbf"]}
    return {
        "logistic regression": LogisticRegression(C=0.1, class_weight="balanced", solver="newton-cholesky"),
        "random forest": RandomForestClassifier(300, max_depth=4, class_weight="balanced", random_state=SEED),
        "XGBoost": XGBClassifier(n_estimators=300, learning_rate=0.05, max_depth=4, n_jobs=1, random_state=SEED),
        "AdaBoost": AdaBoostClassifier(n_estimators=300, learning_rate=0.05, random_state=SEED),
        "SVM": GridSearchCV(svm, grid, scoring="roc_auc", cv=StratifiedKFold(3, shuffle=True, random_state=SEED)),
    }


@dataclass(frozen=True)
class PredictorResult:
    """The scores of one predictor for each decided battle, and its measures in each subset."""

    predictor: str
    features: str
    folds: str
    scores: Floats  # above 0: clip a
    measures: Mapping[str, Measures]

    def as_json(self) -> dict[str, Any]:
        about = {"predictor": self.predictor, "features": self.features, "folds": self.folds}
        return about | dict(self.measures)


@dataclass(frozen=True)
class Experiment:
    """The results of the experiment."""

    battles: Battles
    rules: list[PredictorResult]  # a single score, the higher one wins; nothing is learnt
    fitted: list[PredictorResult]
    leaderboards: Mapping[str, Mapping[str, list[Rating]]]  # by subset, "human" and "predicted"

    def as_json(self) -> dict[str, Any]:
        """What `results.json` holds."""
        names, counts = np.unique(self.battles.preferences, return_counts=True)
        boards = {
            subset: {kind: [asdict(rating) for rating in ratings] for kind, ratings in both.items()}
            for subset, both in self.leaderboards.items()
        }
        return {
            "n_battles": len(self.battles),
            "preferences": {str(name): int(count) for name, count in zip(names, counts, strict=True)},
            "scores": list(self.battles.scores),
            "rules": [result.as_json() for result in self.rules],
            "models": [result.as_json() for result in self.fitted],
            "leaderboard_model": dict(zip(("predictor", "features", "folds"), LEADERBOARD, strict=True)),
            "leaderboards": boards,
        }


def run(
    battles: Battles,
    *,
    n_resamples: int = 1_000,
    min_votes: int = MIN_VOTES,
    on_progress: OnProgress = lambda _done, _total: None,
) -> Experiment:
    """The whole experiment. Raises DataError when there are too few decided battles to learn from."""
    decided = battles.decided
    n_a = int(decided.prefers_a.sum())
    if len(decided) < MIN_BATTLES or min(n_a, len(decided) - n_a) < N_FOLDS:
        raise DataError(
            f"{len(decided)} decided battles, {n_a} of them for clip a, are too few: {MIN_BATTLES} are due, and "
            f"{N_FOLDS} for each side"
        )
    rules = [_rule(decided, name, n_resamples) for name in decided.scores]
    fitted = [
        _evaluate(decided, (predictor, feature_set, folds), scores, n_resamples)
        for (predictor, feature_set, folds), scores in _out_of_fold(decided, on_progress).items()
    ]
    boards = _leaderboards(battles, fitted, min_votes=min_votes, n_resamples=n_resamples)
    return Experiment(battles, rules, fitted, boards)


def measure(truth: NDArray[np.bool_], scores: Floats, counts: NDArray[np.int64] | None = None) -> Measures:
    """AUC, F1 (of "clip a") and accuracy of calling every score above 0 "clip a"; None for an AUC without two sides.

    counts : how often each battle is there; once each without counts
    """
    counts = np.ones(len(truth), np.int64) if counts is None else counts
    n_true, n_false = counts[truth].sum(), counts[~truth].sum()
    ranks = mean_ranks(np.unique(scores, return_inverse=True)[1], counts)
    above = (counts * ranks)[truth].sum() - n_true * (n_true + 1) / 2
    called = scores > 0
    hits, n_called = counts[truth & called].sum(), counts[called].sum()
    return {
        "auc": float(above / (n_true * n_false)) if n_true and n_false else None,
        "f1": float(2 * hits / (n_true + n_called)) if n_true + n_called else None,
        "accuracy": float(counts[truth == called].sum() / counts.sum()) if counts.sum() else None,
    }


def splits(battles: Battles, folds: str) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Training rows and test rows of each fold; empty where there are too few groups for two folds."""
    truth, groups = battles.prefers_a, FOLDS[folds](battles)
    if groups is None:
        return list(StratifiedKFold(N_FOLDS, shuffle=True, random_state=SEED).split(truth, truth))
    n_folds = min(N_FOLDS, len(set(groups)))
    if n_folds < 2:
        return []
    parts = StratifiedGroupKFold(n_folds, shuffle=True, random_state=SEED).split(truth, truth, groups)
    return [(learn, test) for learn, test in parts if len(test)]


def _out_of_fold(battles: Battles, on_progress: OnProgress) -> dict[tuple[str, str, str], Floats]:
    """The scores of every model on every feature set and kind of folds."""
    scores = {job: np.empty(len(battles)) for job in _jobs(battles)}
    # Threads are enough: the libraries let go of the interpreter while they compute.
    with ThreadPoolExecutor(usable_cores()) as pool:
        futures = {
            pool.submit(_predict, battles, *job[:2], learn, test): (job, test)
            for job in scores
            for learn, test in splits(battles, job[2])
        }
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                job, test = futures[future]
                scores[job][test] = future.result()
                on_progress(done, len(futures))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after Ctrl-C, what has not begun never does
    return scores


def _jobs(battles: Battles) -> Iterator[tuple[str, str, str]]:
    all_scores = used(battles, aesthetics=True)
    sets = [name for name, has in FEATURE_SETS.items() if not has or used(battles, aesthetics=False) != all_scores]
    for folds in FOLDS:
        parts = splits(battles, folds)
        if parts and all(len(set(battles.prefers_a[learn])) == 2 for learn, _ in parts):
            yield from ((model, feature_set, folds) for feature_set in sets for model in models())


def _predict(
    battles: Battles, model: str, feature_set: str, learn: NDArray[np.int64], test: NDArray[np.int64]
) -> Floats:
    """The scores of one fold, above 0 for clip a: a margin, or else the probability less one half."""
    x = features(battles, aesthetics=FEATURE_SETS[feature_set])
    fitted = clone(models()[model]).fit(x[learn], battles.prefers_a[learn])
    x = x[test]
    if isinstance(fitted, GridSearchCV):
        return np.asarray(fitted.decision_function(x), np.float64)
    return np.asarray(fitted.predict_proba(x)[:, 1], np.float64) - 0.5


def _rule(battles: Battles, name: str, n_resamples: int) -> PredictorResult:
    a, b = battles.scores[name]
    return _evaluate(battles, (f"higher {name}", "one score", "none"), a - b, n_resamples)


def _evaluate(battles: Battles, about: tuple[str, str, str], scores: Floats, n_resamples: int) -> PredictorResult:
    measures = {
        name: _with_intervals(battles.prefers_a[rows], scores[rows], n_resamples)
        for name, choose in SUBSETS.items()
        if (rows := choose(battles)).any()
    }
    return PredictorResult(*about, scores, measures)


def _with_intervals(truth: NDArray[np.bool_], scores: Floats, n_resamples: int) -> Measures:
    rng = np.random.default_rng(0)
    draws = [measure(truth, scores, resample(rng, len(truth))) for _ in range(n_resamples)]
    measures: Measures = {"n": len(truth)}
    for name, value in measure(truth, scores).items():
        measures |= {name: value, f"{name}_ci95": interval([draw[name] for draw in draws])}
    return measures


def _leaderboards(
    battles: Battles, fitted: Sequence[PredictorResult], *, min_votes: int, n_resamples: int
) -> dict[str, dict[str, list[Rating]]]:
    """For instrumental and vocal battles, the listeners' ratings and those from the predicted preferences."""
    chosen = next((j for j in fitted if (j.predictor, j.features, j.folds) == LEADERBOARD), fitted[0])
    rated = battles.where(battles.preferences != "BOTH_BAD")
    shares = {"A": 1.0, "B": 0.0, "TIE": 0.5}
    sources = {
        "human": (rated, np.array([shares[preference] for preference in rated.preferences])),
        "predicted": (battles.decided, (chosen.scores > 0).astype(np.float64)),
    }
    boards: dict[str, dict[str, list[Rating]]] = {}
    for subset in ("instrumental", "vocal"):
        for kind, (source, won) in sources.items():
            rows = SUBSETS[subset](source)
            if rows.any():
                systems = source.where(rows).systems
                ratings = rate(*systems, won[rows], min_votes=min_votes, n_resamples=n_resamples)
                boards.setdefault(subset, {})[kind] = ratings
    return boards
