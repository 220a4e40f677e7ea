"""A decoder and a scorer without a decoder and a model: the same shapes, the outcome chosen by the test."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from app.core.deployment import Deployment
from app.core.jobs.models import Job, new_job_id
from app.core.jobs.queue_status import QueueStatus
from app.core.jobs.state_machine import JobStateMachine
from app.core.storage.folder import FolderStorage
from app.core.storage.protocol import Storage
from model.audio.decoder import Decoder
from model.domain import PREPROCESSING, AudioFacts, AudioWarning
from model.inference.analysis import TrackAnalysis, TrackEmbedding
from tests.conftest import KEYS, audio_files
from worker.audio_files import AudioFiles, StoredFiles
from worker.machine_faults import Pause
from worker.score_track import ScoreTrack
from worker.watchdog import Watchdog

FACTS = AudioFacts(container="wav", codec="pcm_s16le", sample_rate_hz=44_100, channels=2, duration_s=61.0)
SCORES = {"score_streams": 61.4213, "score_likes": 48.0687}
SEGMENT_SCORES = {name: [score] * 3 for name, score in SCORES.items()}
SPREAD = {"method": "segment_bootstrap", "level": 0.9} | {name: [score, score] for name, score in SCORES.items()}
EMBEDDING = np.array([0.1, -2.5, 3e-8], np.float32)


def analysis(scores: Mapping[str, float], n_segments: int) -> TrackAnalysis:
    """What a model could say of a track that is the same all the way through."""
    provenance = {
        "encoder": "fake",
        "preprocessing": PREPROCESSING,
        "hidden_states": [2, 5, 8, 12],
        "layer_mix": {"weights": [0.25] * 4, "bias": 0.0},
        "engine": "fake",
        "precision": "fp32",
    }
    return TrackAnalysis(
        scores=scores,
        segment_scores={name: [score] * n_segments for name, score in scores.items()},
        spread={name: (score, score) for name, score in scores.items()} if n_segments > 1 else None,
        percentiles=None,
        embedding=TrackEmbedding(EMBEDDING, n_segments, provenance),
    )


def nothing() -> None:
    """A step that goes well."""


def raising(error: BaseException) -> None:
    """A step that does not."""
    raise error


@dataclass
class FakeTrack:
    facts: AudioFacts = FACTS
    n_segments: int = 3
    warnings: tuple[AudioWarning, ...] = ()

    def segments(self) -> Iterator[np.ndarray]:
        yield from np.zeros((self.n_segments, 8), np.float32)


@dataclass
class FakeDecoder:
    on_decode: Callable[[], None] = nothing
    warnings: tuple[AudioWarning, ...] = ()

    @contextmanager
    def decode(self, file: BinaryIO) -> Iterator[FakeTrack]:
        assert file.readable()
        self.on_decode()
        yield FakeTrack(warnings=self.warnings)


@dataclass
class FakeCard:
    version: str = "fake"
    device: str = "none"
    scores: dict[str, tuple[float, float]] = field(default_factory=lambda: dict.fromkeys(SCORES, (0.0, 100.0)))
    reference: None = None

    def identity(self) -> dict[str, Any]:
        return {"name": "apex", "version": "fake"}


@dataclass
class FakeScorer:
    on_segment: Callable[[], None] = nothing
    card: FakeCard = field(default_factory=FakeCard)

    def analyse(self, segments: Iterable[np.ndarray], *, on_progress: Callable[[int], None]) -> TrackAnalysis:
        n_segments = 0
        for n_segments, _ in enumerate(segments, 1):
            self.on_segment()
            on_progress(n_segments)
        return analysis(SCORES, n_segments)


def score_track(
    machine: JobStateMachine,
    data_dir: Path,
    *,
    on_decode: Callable[[], None] = nothing,
    on_segment: Callable[[], None] = nothing,
    warnings: tuple[AudioWarning, ...] = (),
    lease_s: float = 60,
    storage: Storage | None = None,
    audio: AudioFiles | None = None,
) -> ScoreTrack:
    """The real task with fake parts."""
    storage = storage or FolderStorage(data_dir / "audio")
    return ScoreTrack(
        machine=machine,
        queue_status=QueueStatus(machine.redis, KEYS),
        storage=storage,
        audio=audio or StoredFiles(storage),
        deployment=Deployment(machine.redis, KEYS, storage, wary=True),
        decoder=cast(Decoder, FakeDecoder(on_decode, warnings)),
        scorer=FakeScorer(on_segment),
        max_attempts=3,
        lease_s=lease_s,
        watchdog=Watchdog(60.0),
        pause=Pause(nothing),
    )


def accepted(machine: JobStateMachine, data_dir: Path, **values: Any) -> Job:
    """A job as the front end leaves it: audio stored, record written, queued."""
    job_id = new_job_id()
    with FolderStorage(data_dir / "audio").receive(job_id) as part:
        part.append(b"audio")
        part.commit()
    audio = {"bytes": 5, "container": "wav"}
    return machine.create(Job(id=job_id, storage_key=job_id, audio=audio, request_id="r1", **values))[0]


def outcome(machine: JobStateMachine, job: Job) -> Job:
    found = machine.store.get(job.id)
    assert found
    return found


def stored(data_dir: Path) -> list[str]:
    return [path.name for path in audio_files(data_dir / "audio")]
