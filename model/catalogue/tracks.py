"""The tracks of a catalogue, and what became of each."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model.domain import AudioFacts, AudioWarning


@dataclass(frozen=True)
class Track:
    """A track as a manifest names it.

    uri : where its audio is, for `Sources` to understand; bytes that are no text in it are surrogate escapes
    about : what else belongs into its rows
    group : tracks of different groups are in different files
    """

    id: str
    uri: str
    about: Mapping[str, object] = field(default_factory=dict)
    group: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a track: scores, and where they were asked for the embeddings of its segments; or a code."""

    track: Track
    sha256: str | None = None  # of the file, where it could be read
    facts: AudioFacts | None = None
    n_segments: int = 0
    warnings: tuple[AudioWarning, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    vectors: NDArray[np.float32] | None = None
    code: str | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Summary:
    """Numbers of tracks, and the seconds of audio of those that were decoded."""

    n_tracks: int = 0
    audio_s: float = 0.0
    failures: Mapping[str, int] = field(default_factory=dict)  # by error code

    @property
    def n_failed(self) -> int:
        return sum(self.failures.values())

    def __add__(self, other: "Summary") -> "Summary":
        failures = Counter(self.failures) + Counter(other.failures)
        return Summary(self.n_tracks + other.n_tracks, self.audio_s + other.audio_s, dict(sorted(failures.items())))

    @classmethod
    def of(cls, outcome: Outcome) -> Self:
        """Of one track."""
        return cls(1, outcome.facts.duration_s if outcome.facts else 0.0, {outcome.code: 1} if outcome.code else {})
