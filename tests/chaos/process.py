"""`python -m tests.chaos.process`: a scoring process whose decoder and scorer do what the track's script says.

Everything else is the worker's own. A test hands this command to the supervisor; no setting of the service leads here.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import BinaryIO, cast

from app.core.settings import WorkerSettings
from model.audio.decoder import Decoder
from model.audio.pcm import Samples
from model.domain import SCORE_RANGES, AudioFacts, AudioWarning
from model.inference.analysis import TrackAnalysis
from tests.chaos.scripted import SCRIPTED, Script, scores
from tests.worker.fakes import analysis
from worker.process import serve

#: For the supervisor.
COMMAND = (sys.executable, "-m", "tests.chaos.process")


@dataclass(frozen=True)
class ScriptedTrack:
    track: bytes
    warnings: tuple[AudioWarning, ...] = ()

    @property
    def facts(self) -> AudioFacts:
        return AudioFacts(container="wav", codec="script", sample_rate_hz=24_000, channels=1, duration_s=30.0)

    @property
    def n_segments(self) -> int:
        return Script.of(self.track).n_segments

    def segments(self) -> Iterator[bytes]:
        yield from [self.track] * self.n_segments


class ScriptedDecoder:
    layers: tuple[str, ...] = ()
    missing_layers: tuple[str, ...] = ()

    @contextmanager
    def decode(self, file: BinaryIO) -> Iterator[ScriptedTrack]:
        yield ScriptedTrack(file.read())

    def check_works(self) -> None:
        """Nothing of the machine is needed."""


@dataclass(frozen=True)
class ScriptedCard:
    name: str = SCRIPTED
    version: str = "scripted-1"
    trained: bool = False
    device: str = "none"
    scores: dict[str, tuple[float, float]] = field(default_factory=lambda: dict(SCORE_RANGES))
    reference: None = None

    def identity(self) -> dict[str, object]:
        return {name: value for name, value in asdict(self).items() if name not in ("scores", "reference")}


class ScriptedScorer:
    card = ScriptedCard()

    def analyse(self, segments: Iterable[Samples], *, on_progress: Callable[[int], None]) -> TrackAnalysis:
        track, n_segments = b"", 0
        for n_segments, segment in enumerate(segments, 1):
            track = cast(bytes, segment)
            Script.of(track).play()
            on_progress(n_segments)
        return analysis(scores(track), n_segments)


def decoding(settings: WorkerSettings) -> AbstractContextManager[Decoder]:
    settings.scratch_dir.mkdir(parents=True, exist_ok=True)  # where objects are copied to
    return nullcontext(cast(Decoder, ScriptedDecoder()))


if __name__ == "__main__":
    serve(lambda _settings: ScriptedScorer(), decoding)
