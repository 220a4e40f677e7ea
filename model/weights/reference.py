"""The reference distribution: how the scores of many tracks are distributed, to tell where one track's score lies.

    DIR/apex/reference.json

    {"format": 1, "name": "Catalogue of …", "date": "2026-11-27", "n_tracks": 12000,
     "model": {"encoder_sha256": "…", "head_sha256": "…", "preprocessing": "mono-24k-30s-v1"},
     "quantiles": {"score_streams": [101 values], …}}

`quantiles` has for each score of the head its 0th, 1st, … 100th percentile among the tracks, so a distribution of any
size takes the same few kilobytes. The hashes are of the files that scored the tracks, or that those were made from.
"""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from model.domain import PREPROCESSING, SCORE_RANGES, WeightsError
from model.networks.checkpoint import raise_if_faulty, read_json

REFERENCE_FILE = "reference.json"
FORMAT = 1
N_QUANTILES = 101
FIELDS: Mapping[str, type] = {
    "format": int,
    "name": str,
    "date": str,
    "n_tracks": int,
    "model": dict,
    "quantiles": dict,
}
MODEL_FIELDS = ("encoder_sha256", "head_sha256", "preprocessing")
MAX_NAME_CHARS = 128


@dataclass(frozen=True)
class Reference:
    """The distribution of each score over the tracks of a named collection, as one model scored them.

    quantiles : by score, its 0th to 100th percentile, ascending
    """

    name: str
    date: str
    n_tracks: int
    encoder_sha256: str
    head_sha256: str
    quantiles: Mapping[str, Sequence[float]]

    def about(self) -> dict[str, object]:
        """What says which distribution it is; JSON."""
        return {"name": self.name, "date": self.date, "n_tracks": self.n_tracks}

    def percentiles(self, scores: Mapping[str, float]) -> dict[str, float]:
        """For each score the share of the reference's tracks that score lower, 0 to 100 with one decimal.

        Interpolated between quantiles; where several are equal to the score, the middle of their shares.
        """
        return {name: round(_rank(score, self.quantiles[name]), 1) for name, score in scores.items()}

    def check_model(self, path: Path, *, encoder: Container[str | None], head: Container[str | None]) -> None:
        """Raise WeightsError naming `path` unless it was made with these weights, by the hashes that they have had."""
        for part, made_with, hashes in (("encoder", self.encoder_sha256, encoder), ("head", self.head_sha256, head)):
            if made_with not in hashes:
                raise WeightsError(f"{path}: made with another {part} (sha256 {made_with}): remove it, or make it anew")


def read_reference(path: Path, *, score_names: Sequence[str]) -> Reference:
    """The reference in a file. Raises WeightsError that names all that is wrong with it.

    score_names : the scores of the head; the file has a distribution of each, and of no other
    """
    raw = read_json(path)
    faults = [
        f"{name} is missing or no {kind.__name__}" for name, kind in FIELDS.items() if type(raw.get(name)) is not kind
    ]
    raise_if_faulty(path, faults)
    model, quantiles = raw["model"], raw["quantiles"]
    faults += [f"model.{name} is missing or no text" for name in MODEL_FIELDS if not isinstance(model.get(name), str)]
    faults += _faults_of_facts(raw)
    if set(quantiles) != set(score_names):
        faults.append(f"quantiles are of {sorted(quantiles)}, and the head's scores are {sorted(score_names)}")
    faults += [f"quantiles.{name} {fault}" for name in score_names if (fault := _fault(name, quantiles.get(name, [])))]
    raise_if_faulty(path, faults)
    return Reference(
        *(raw["name"], raw["date"], raw["n_tracks"], model["encoder_sha256"], model["head_sha256"]),
        quantiles={name: tuple(map(float, quantiles[name])) for name in score_names},
    )


def _faults_of_facts(raw: Mapping[str, Any]) -> list[str]:
    faults = []
    if raw["format"] != FORMAT:
        faults.append(f"format {raw['format']} is not known here, only {FORMAT}")
    if not 0 < len(raw["name"]) <= MAX_NAME_CHARS:
        faults.append(f"name has not 1 to {MAX_NAME_CHARS} characters")
    try:
        date.fromisoformat(raw["date"])
    except ValueError:
        faults.append("date is none, such as 2026-11-27")
    if raw["n_tracks"] < 1:
        faults.append("n_tracks is not at least 1")
    if (preprocessing := raw["model"].get("preprocessing")) != PREPROCESSING:
        faults.append(f"model.preprocessing is {preprocessing!r:.40}, and here it is {PREPROCESSING!r}")
    return faults


def _fault(name: str, values: object) -> str:
    if not isinstance(values, list) or len(values) != N_QUANTILES:
        return f"is not {N_QUANTILES} values"
    if not all(type(value) in (int, float) and math.isfinite(value) for value in values):
        return "has a value that is no finite number"
    low, high = SCORE_RANGES[name]
    if sorted(values) != values or not low <= values[0] <= values[-1] <= high:
        return f"does not ascend within {low:g} to {high:g}"
    return ""


def _rank(score: float, quantiles: Sequence[float]) -> float:
    below, upto = np.searchsorted(quantiles, score, "left"), np.searchsorted(quantiles, score, "right")
    if upto > below:
        return float(below + upto - 1) / 2
    return float(np.interp(score, quantiles, range(N_QUANTILES)))
