"""From the segments of a track to its scores: the whole of the model, loaded once and kept warm.

Knows nothing of files of audio, jobs or HTTP.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from model.audio.pcm import Samples, normalise
from model.domain import (
    PREPROCESSING,
    SCORE_RANGES,
    SEGMENT_SAMPLES,
    AudioError,
    AudioTooShort,
    ModelOutputInvalid,
    WeightsError,
)
from model.inference.analysis import TrackAnalysis, TrackEmbedding, mean_embedding, spread_of
from model.inference.engines.selection import Engine, open_engine
from model.inference.precision import EXACT, select_engine
from model.networks.checkpoint import read_json
from model.networks.head import EMBEDDING_DIM
from model.networks.head_formats import LoadedHead, load_head
from model.networks.mert import HIDDEN_STATES, EncoderSource, weights_path
from model.weights.directory import FileEntry, Manifest, entry_of, verify
from model.weights.reference import REFERENCE_FILE, Reference, read_reference

Item = TypeVar("Item")
TrackT = TypeVar("TrackT", bound=Iterable[Samples])

#: Segments in one forward pass, per kind of device. On a CPU more gain little, and cost memory.
BATCH_SEGMENTS = {"cuda": 8, "cpu": 1}
N_DECIMALS = 4
VERSION_HEX_DIGITS = 12

#: Why a track has no scores: a fault of the track, or of the model.
TrackError = AudioError | ModelOutputInvalid
#: Called after each batch with the number of segments done; may raise to stop.
OnProgress = Callable[[int], None]


@dataclass(frozen=True)
class ModelCard:
    """What identifies the model behind a score: its weights, how they are run, and their licences."""

    name: str
    version: str  # another version may give other scores; the same one gives the same to 1e-3 in fp32
    trained: bool  # false for random weights, whose scores mean nothing
    checkpoint_sha256: str
    encoder: str
    preprocessing: str
    engine: str
    device: str
    precision: str
    precision_deviation: Mapping[str, float]  # how far each score is from that in fp32, on the probe; empty in fp32
    scores: Mapping[str, tuple[float, float]]
    licences: Mapping[str, str]
    #: What the head learned to score: "song", from the mean of its segments, or "segment".
    training_unit: str = "song"
    #: Name, date and size of the distribution that percentiles come from.
    reference: Mapping[str, object] | None = None

    def identity(self) -> dict[str, object]:
        """The part that belongs beside every score; JSON."""
        return {name: value for name, value in asdict(self).items() if name not in ("scores", "licences", "reference")}


class Scorer:
    """Scores tracks. Holds the two networks and no state between tracks; not for several threads at once."""

    def __init__(
        self,
        engine: Engine,
        head: LoadedHead,
        card: ModelCard,
        *,
        batch_segments: int = 1,
        reference: Reference | None = None,
    ) -> None:
        self.card = card
        self._engine = engine
        self._head = head
        self._batch_segments = batch_segments
        self._reference = reference

    @classmethod
    def load(
        cls,
        weights_dir: Path,
        *,
        device: str = "auto",
        engine: str = "auto",
        precision: str = EXACT,
        compiled: bool = False,
        cache_dir: Path | None = None,
        batch_segments: int = 0,
        head: Path | None = None,
    ) -> "Scorer":
        """A scorer from a weights directory, every file of which is checked first. Arguments as for `open_engine`.

        precision : what to compute in, or "auto"; fp32 instead where scores of the probe deviate by more than the
            tolerance
        batch_segments : segments in one forward pass; 0 for what suits the device
        head : a file or directory with another head than that of the weights, such as the one of a training run;
            there is no reference distribution of its scores
        Raises WeightsError for weights that fail their checks, DeviceError for a device that is not there.
        """
        manifest = verify(weights_dir)
        loaded = _load_matching_head(head or weights_dir / "apex", weights_dir)
        encoder = EncoderSource(weights_dir / "mert", _digest_of(manifest, "mert/"))
        open_at = partial(open_engine, encoder, device=device, engine=engine, compiled=compiled, cache_dir=cache_dir)
        chosen, deviations = select_engine(
            lambda precision: open_at(precision=precision),
            precision,
            lambda each, segment: _scores(loaded, _embeddings(each, loaded, [_normalised(segment)])[0]),
        )
        head_file = entry_of(loaded.path) if head else _entry(manifest, weights_dir, loaded.path)
        mert_file = _entry(manifest, weights_dir, weights_path(encoder.directory))
        reference = None if head else _reference(weights_dir, loaded, head_file=head_file, mert_file=mert_file)
        card = _card(
            chosen,
            deviations,
            loaded,
            trained=manifest.trained,
            head_file=head_file,
            mert_file=mert_file,
            reference=reference,
        )
        batch_segments = batch_segments or BATCH_SEGMENTS[chosen.device.partition(":")[0]]
        return cls(chosen, loaded, card, batch_segments=batch_segments, reference=reference)

    def score(self, segments: Iterable[Samples], on_progress: OnProgress | None = None) -> dict[str, float]:
        """The scores of a track, each within its range, rounded to four decimals.

        segments : float32, shape = (720000,) each, in order, not normalised; what `model.audio.pcm.segments` yields.
            A shorter one counts as followed by zeros, and costs less than one that holds them
        Raises AudioTooShort without a segment, ModelOutputInvalid when the networks give NaN or infinity.
        """
        return self._score_track(self.embed(segments, on_progress))

    def analyse(self, segments: Iterable[Samples], on_progress: OnProgress | None = None) -> TrackAnalysis:
        """The scores of a track, exactly as `score` gives them, and what stands beside them.

        The encoder does nothing for it: the head is run on more embeddings. Arguments and errors as for `score`.
        """
        embeddings = self.embed(segments, on_progress)
        scores = self._score_track(embeddings)
        return TrackAnalysis(
            scores=scores,
            segment_scores={
                name: [round(float(value), N_DECIMALS) for value in values]
                for name, values in _run_head(self._head, embeddings).items()
            },
            spread=spread_of(embeddings, partial(_run_head, self._head)),
            percentiles=self._reference.percentiles(scores) if self._reference else None,
            embedding=TrackEmbedding(mean_embedding(embeddings), len(embeddings), self._provenance()),
        )

    def embed(self, segments: Iterable[Samples], on_progress: OnProgress | None = None) -> NDArray[np.float32]:
        """The embedding of each segment, shape = (n_segments, dim). Their plain mean is the track's.

        A short last segment counts as much as a full one. Arguments and errors as for `score`.
        """
        embeddings: list[NDArray[np.float32]] = []
        for batch in _batches(map(_normalised, segments), self._batch_segments):
            embeddings.extend(_embeddings(self._engine, self._head, batch))
            if on_progress is not None:
                on_progress(len(embeddings))
        return _stacked(embeddings)

    def score_embedding(self, embedding: NDArray[np.floating]) -> dict[str, float]:
        """The scores of a track's embedding, shape = (dim,)."""
        return _scores(self._head, embedding)

    def score_many(
        self, tracks: Iterable[TrackT], on_progress: OnProgress | None = None
    ) -> Iterator[tuple[TrackT, dict[str, float] | TrackError]]:
        """Each track, in order, with its scores or the error that `score` would raise for it alone.

        Segments of different tracks share a batch, so that short tracks do not leave a device half idle. Tracks are
        taken, and read, only as far as batches need them. `on_progress` is called with the segments done of all tracks.
        """
        pending: deque[_PendingTrack[TrackT]] = deque()
        n_done = 0
        for batch in _batches(_interleave_segments(tracks, pending), self._batch_segments):
            self._embed_into(batch)
            n_done += len(batch)
            if on_progress is not None:
                on_progress(n_done)
            while pending and pending[0].is_done:
                yield self._outcome(pending.popleft())
        yield from map(self._outcome, pending)

    def warm_up(self) -> None:
        """Scores noise in batches of every size, so that the first track finds everything allocated and compiled."""
        noise = np.random.default_rng(0).standard_normal(SEGMENT_SAMPLES, np.float32)
        for size in range(self._batch_segments, 0, -1):
            self.score([noise] * size)

    def _score_track(self, embeddings: NDArray[np.float32]) -> dict[str, float]:
        return self.score_embedding(mean_embedding(embeddings))

    def _provenance(self) -> dict[str, object]:
        made_by = {"engine": self.card.engine, "precision": self.card.precision}
        return _provenance(self.card.encoder, self._head) | {"hidden_states": list(HIDDEN_STATES)} | made_by

    def _embed_into(self, batch: Sequence[tuple["_PendingTrack[TrackT]", Samples]]) -> None:
        states = self._engine.embed([samples for _, samples in batch])
        for (pending, _), state in zip(batch, states, strict=True):
            try:
                pending.embeddings.append(_mixed(self._head, state))
            except ModelOutputInvalid as error:
                pending.error = error

    def _outcome(self, pending: "_PendingTrack[TrackT]") -> tuple[TrackT, dict[str, float] | TrackError]:
        if pending.error is not None:
            return pending.track, pending.error
        try:
            return pending.track, self._score_track(_stacked(pending.embeddings))
        except (AudioTooShort, ModelOutputInvalid) as error:
            return pending.track, error


@dataclass
class _PendingTrack(Generic[TrackT]):
    """A track that shares batches with others, and its embeddings so far."""

    track: TrackT
    n_segments: int = 0
    is_read: bool = False
    embeddings: list[NDArray[np.float32]] = field(default_factory=list)
    error: TrackError | None = None

    @property
    def is_done(self) -> bool:
        return self.is_read and (self.error is not None or len(self.embeddings) == self.n_segments)


def _interleave_segments(
    tracks: Iterable[TrackT], pending: deque[_PendingTrack[TrackT]]
) -> Iterator[tuple[_PendingTrack[TrackT], Samples]]:
    """The normalised segments of all tracks; a track that cannot be read to its end keeps the error."""
    for track in tracks:
        pending.append(current := _PendingTrack(track))
        try:
            for samples in map(_normalised, track):
                current.n_segments += 1
                yield current, samples
        except AudioError as error:
            current.error = error
        current.is_read = True


def _embeddings(engine: Engine, head: LoadedHead, batch: Sequence[Samples]) -> list[NDArray[np.float32]]:
    """The embedding of each normalised segment."""
    return [_mixed(head, states) for states in engine.embed(batch)]


def _normalised(segment: Samples) -> Samples:
    return normalise(segment, SEGMENT_SAMPLES - len(segment))


def _mixed(head: LoadedHead, states: NDArray[np.float32]) -> NDArray[np.float32]:
    embedding: NDArray[np.float32] = head.layer_mix(_finite(states)).astype(np.float32)
    return embedding


def _stacked(embeddings: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    if not embeddings:
        raise AudioTooShort("the track has no samples")
    return np.stack(embeddings)


def _scores(head: LoadedHead, embedding: NDArray[np.floating]) -> dict[str, float]:
    scores = _run_head(head, embedding.astype(np.float32)[None])
    return {name: round(values.item(), N_DECIMALS) for name, values in scores.items()}


def _run_head(head: LoadedHead, embeddings: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """The scores of embeddings, shape = (n, dim): n values of each, not rounded."""
    with torch.inference_mode():
        scores = {name: values.numpy() for name, values in head.head(torch.from_numpy(embeddings)).items()}
    _finite(np.array(list(scores.values())))
    return scores


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def _finite(values: NDArray[np.floating]) -> NDArray[np.floating]:
    if not np.isfinite(values).all():
        raise ModelOutputInvalid("the model gave values that are not finite numbers")
    return values


def model_version(weights_dir: Path, head: Path | None = None) -> str:
    """The version on the card of a scorer with these weights, and this head. Loads neither network."""
    manifest = verify(weights_dir)
    loaded = _load_matching_head(head or weights_dir / "apex", weights_dir)
    head_file = entry_of(loaded.path) if head else _entry(manifest, weights_dir, loaded.path)
    return _version(manifest.trained, _entry(manifest, weights_dir, weights_path(weights_dir / "mert")), head_file)


def provenance(weights_dir: Path) -> dict[str, object]:
    """What embeddings made with these weights depend on, ready for JSON. Loads neither network."""
    path = weights_path(weights_dir / "mert")
    return _provenance(_origin(_entry(verify(weights_dir), weights_dir, path)), load_head(weights_dir / "apex"))


def _provenance(encoder: str, head: LoadedHead) -> dict[str, object]:
    mix = head.layer_mix
    return {
        "encoder": encoder,
        "preprocessing": PREPROCESSING,
        "layer_mix": {"weights": list(mix.weights), "bias": mix.bias},
    }


def _reference(weights_dir: Path, head: LoadedHead, *, head_file: FileEntry, mert_file: FileEntry) -> Reference | None:
    """The reference distribution of a weights directory, if it has one."""
    path = weights_dir / "apex" / REFERENCE_FILE
    if not path.exists():
        return None
    reference = read_reference(path, score_names=head.config.score_names)
    hashes = {part: (file.sha256, file.source_sha256) for part, file in (("encoder", mert_file), ("head", head_file))}
    reference.check_model(path, **hashes)
    return reference


def _load_matching_head(path: Path, weights_dir: Path) -> LoadedHead:
    """The head, if it takes embeddings as wide as the encoder gives them."""
    head = load_head(path)
    width = read_json(weights_dir / "mert" / "config.json").get("hidden_size", EMBEDDING_DIM)
    if head.config.input_dim != width:
        raise WeightsError(f"{head.path}: takes {head.config.input_dim} values a song, but the encoder gives {width}")
    return head


def _entry(manifest: Manifest, weights_dir: Path, path: Path) -> FileEntry:
    name = path.relative_to(weights_dir).as_posix()
    if name not in manifest.files:
        raise WeightsError(f"{path}: it is not in the manifest, so its bytes cannot be checked")
    return manifest.files[name]


def _card(
    engine: Engine,
    deviations: Mapping[str, float],
    head: LoadedHead,
    *,
    trained: bool,
    head_file: FileEntry,
    mert_file: FileEntry,
    reference: Reference | None,
) -> ModelCard:
    licences = {"encoder": mert_file.licence, "head": head_file.licence}
    return ModelCard(
        name="apex",
        version=_version(trained, mert_file, head_file),
        trained=trained,
        checkpoint_sha256=head_file.sha256,
        encoder=_origin(mert_file),
        preprocessing=PREPROCESSING,
        engine=engine.name,
        device=engine.device,
        precision=engine.precision,
        precision_deviation=deviations,
        scores={name: SCORE_RANGES[name] for name in head.config.score_names},
        licences={part: licence for part, licence in licences.items() if licence},
        training_unit="segment" if head.info.get("mode") == "segment" else "song",
        reference=reference.about() if reference else None,
    )


def _digest_of(manifest: Manifest, folder: str) -> str:
    """One hash of all files in a folder of the weights."""
    lines = [f"{path} {entry.sha256}" for path, entry in sorted(manifest.files.items()) if path.startswith(folder)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _version(trained: bool, *files: FileEntry) -> str:
    return f"{'apex' if trained else 'stand-in'}-{_digest(*files)[:VERSION_HEX_DIGITS]}"


def _digest(*files: FileEntry) -> str:
    """One hash of everything that the numbers come from: both files of weights, and the preprocessing."""
    parts = [PREPROCESSING, *(file.sha256 for file in files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _origin(file: FileEntry) -> str:
    """The repository and revision of a file, as `owner/name@revision`; its hash where that is not known."""
    if file.source is None:
        return f"sha256:{file.sha256}"
    repository = "/".join(file.source.split("/")[:2])
    return f"{repository}@{file.revision}" if file.revision else repository
