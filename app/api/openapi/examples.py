"""Examples of jobs for the OpenAPI document, made by the code that shows real jobs."""

from dataclasses import replace

from app.api.jobs.views import job_view
from app.api.jobs.wait_estimate import QueueEstimate
from app.core.jobs.models import Job, JobState
from app.core.json_types import Json
from app.core.problems import problem_object
from model.domain import SCORE_RANGES

JOB_ID = "job_0f8c8d3e9b5a4c3f8d2b7a6e5c4d3b2a"
REQUEST_ID = "01J9ZK3W7Q8M4D2V"
WEEK_S = 7 * 24 * 60 * 60

UPLOADED = {"sha256": "5f8e" * 16, "bytes": 7_340_032, "container": "mp3"}
DECODED = UPLOADED | {"codec": "mp3", "sample_rate_hz": 44_100, "channels": 2, "duration_s": 183.4, "decoder": "ffmpeg"}
SCORES = dict(zip(SCORE_RANGES, (61.4213, 48.0687, 3.8142, 3.6603, 3.2178, 3.9421, 3.5816), strict=True))

ESTIMATE = QueueEstimate(3, 512.0, 60.0, 1_795_360_095, 1_795_360_099)

_QUEUED = Job(
    id=JOB_ID,
    storage_key=JOB_ID,
    created_at=1_795_360_091.204,
    request_id=REQUEST_ID,
    external_id="track-9931",
    metadata={"album": "x"},
    audio=UPLOADED,
    timings={"upload_s": 0.61},
)
_STARTED = replace(_QUEUED, attempt=1, started_at=1_795_360_095.31, audio=DECODED)
_SUCCEEDED = replace(
    _STARTED,
    status=JobState.SUCCEEDED,
    finished_at=1_795_360_096.804,
    progress={"stage": "scoring", "segments_done": 7, "segments_total": 7},
    result={"scores": SCORES, "ranges": SCORE_RANGES},
    model={"name": "apex", "version": "apex-3f1c0a9b7d2e", "trained": True, "engine": "torch", "device": "cuda"},
    timings={"upload_s": 0.61, "queue_s": 4.106, "decode_s": 0.44, "inference_s": 0.38, "total_s": 5.6},
)
_FAILED = replace(
    _STARTED,
    status=JobState.FAILED,
    audio=UPLOADED,
    finished_at=1_795_360_095.9,
    progress={"stage": "decoding", "segments_done": 0, "segments_total": None},
    error=problem_object("audio_undecodable", "The decoder stopped at 12.3 s.", attempts=1, request_id=REQUEST_ID),
)


def _view(job: Job, estimate: QueueEstimate | None = None) -> Json:
    return job_view(job, result_ttl_s=WEEK_S, queue=estimate).model_dump(mode="json", by_alias=True)


#: Examples of a job, as OpenAPI wants them.
JOBS = {
    "queued": {"summary": "Accepted, and waiting", "value": _view(_QUEUED, ESTIMATE)},
    "succeeded": {"summary": "Scored", "value": _view(_SUCCEEDED)},
    "failed": {"summary": "Failed: the request worked, the run did not", "value": _view(_FAILED)},
}
