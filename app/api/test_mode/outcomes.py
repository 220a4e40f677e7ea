"""What comes of a test job: made-up scores, or what its `external_id` asks for."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from struct import pack

from app.core.jobs.models import Job
from model.domain import PREPROCESSING, SCORE_RANGES

#: What is told as the model of a test job.
TEST_MODEL: Mapping[str, object] = {"name": "apex", "version": "apex-test", "trained": False}
DECIMALS = 4
EMBEDDING_DIM = 768


@dataclass(frozen=True)
class Outcome:
    """How a test job goes. `refusal` and `failure` are codes of problems.

    refusal : no job is made, and the request gets this problem
    failure : the job fails with this problem, in place of getting scores
    run_s : how long it runs
    webhook_status : with which status its receiver is taken to have answered the first delivery of each event
    """

    refusal: str | None = None
    failure: str | None = None
    run_s: float = 0.0
    webhook_status: int | None = None


USUAL = Outcome()
#: By the `external_id` that asks for it.
OUTCOMES: Mapping[str | None, Outcome] = {
    "test_fail_undecodable": Outcome(failure="audio_undecodable"),
    "test_worker_lost": Outcome(failure="worker_lost"),
    "test_slow_20s": Outcome(run_s=20.0),
    "test_queue_full": Outcome(refusal="queue_full"),
    "test_webhook_500": Outcome(webhook_status=500),
}


def outcome_of(job: Job) -> Outcome:
    """How a test job goes. Nothing can be asked for of a live one."""
    return USUAL if job.livemode else OUTCOMES.get(job.external_id, USUAL)


def asked_by_name(filename: str | None) -> str | None:
    """The `external_id` of a test job whose file's name asks for an outcome: a file of several has no other way."""
    stem = PurePosixPath(filename or "").stem
    return stem if stem in OUTCOMES else None


def made_up_scores(sha256: str) -> dict[str, float]:
    """A score of each name within its range: always the same for the same track, whose SHA-256 is given."""
    return {name: _made_up(f"{sha256} {name}", *bounds) for name, bounds in SCORE_RANGES.items()}


def made_up_segments(sha256: str, n_segments: int) -> dict[str, object]:
    """What is kept of the segments of a track, beside its scores."""
    rows = [made_up_scores(f"{sha256} {index}") for index in range(n_segments)]
    by_score = {name: [row[name] for row in rows] for name in SCORE_RANGES}
    bounds = {name: [min(values), max(values)] for name, values in by_score.items()}
    spread = {"method": "segment_bootstrap", "level": 0.9, **bounds}
    return {"segment_scores": by_score} | ({"spread": spread} if n_segments > 1 else {})


def made_up_embedding(sha256: str, n_segments: int) -> dict[str, object]:
    """What is kept of the embedding of a track, as wide as a real one."""
    values = (_made_up(f"{sha256} {index}", -1.0, 1.0) for index in range(EMBEDDING_DIM))
    provenance = {
        "encoder": TEST_MODEL["version"],
        "preprocessing": PREPROCESSING,
        "hidden_states": [],
        "layer_mix": {"weights": [], "bias": 0.0},
        "engine": "none",
        "precision": "none",
    }
    encoded = base64.b64encode(pack(f"<{EMBEDDING_DIM}f", *values)).decode()
    return {"float32": encoded, "n_segments": n_segments, "provenance": provenance}


def _made_up(seed: str, low: float, high: float) -> float:
    share = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big") / 2**64
    return round(low + share * (high - low), DECIMALS)
