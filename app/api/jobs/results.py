"""The result of a job as its client reads it: the record keeps more than was asked for."""

from itertools import count

from app.core.jobs.models import Job
from app.core.json_types import Json
from model.domain import SEGMENT_S

TRAINING_UNITS = {
    "song": "The head was trained on songs: on the mean of the embeddings of a song's segments. It scores a segment as "
    "if it were a whole song.",
    "segment": "The head was trained on segments, and scores a song by the mean of the embeddings of its segments.",
}
NOT_THE_MEAN = "The mean of the scores of segments is not the song's score."


def result_view(job: Job) -> Json | None:
    """The scores, with their segments where the client wants them and the record has them."""
    if job.result is None:
        return None
    shown = {name: value for name, value in job.result.items() if name not in ("segment_scores", "spread")}
    by_score = job.result.get("segment_scores") if job.with_segments else None
    if not by_score:
        return shown
    segments = _segments(by_score, job.audio["duration_s"])
    basis = _basis((job.model or {}).get("training_unit", "song"), segments[-1])
    return shown | {"segments": segments, "basis": basis, "spread": job.result.get("spread")}


def _segments(by_score: Json, duration_s: float) -> list[Json]:
    rows = [dict(zip(by_score, values, strict=True)) for values in zip(*by_score.values(), strict=True)]
    starts_s = count(0, SEGMENT_S)
    return [
        # Resampling may make a last segment of less than the duration's last digit.
        {"start_s": start_s, "end_s": min(start_s + SEGMENT_S, max(duration_s, start_s)), "scores": scores}
        for start_s, scores in zip(starts_s, rows, strict=False)
    ]


def _basis(training_unit: str, last: Json) -> Json:
    sound_s = round(last["end_s"] - last["start_s"], 3)
    padding = f"The last segment has {sound_s:g} s of sound, padded with zeros to {SEGMENT_S} s."
    about_last = padding if sound_s < SEGMENT_S else "Every segment is full."
    return {
        "training_unit": training_unit,
        "last_segment_s": sound_s,
        "detail": " ".join((TRAINING_UNITS[training_unit], NOT_THE_MEAN, about_last)),
    }
