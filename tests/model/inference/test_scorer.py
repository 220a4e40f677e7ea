"""The scorer against the plain implementation, and what it promises around the numbers."""

import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from model.audio.pcm import Samples
from model.domain import (
    SCORE_RANGES,
    SEGMENT_SAMPLES,
    TASK_SCORES,
    AudioTooShort,
    AudioUndecodable,
    ModelOutputInvalid,
    WeightsError,
)
from model.inference.scorer import Scorer
from model.networks.head_formats import load_head, save_head
from model.networks.mert import load_mert, pooled_states
from model.weights.directory import FileEntry, read_manifest, write_manifest, write_stand_in
from tests.model import reference
from tests.model.conftest import make_track
from tests.model.inference.signals import FIDELITY, segments_of


@pytest.fixture(scope="module")
def scorer(tiny_weights: Path) -> Scorer:
    return Scorer.load(tiny_weights, engine="torch", device="cpu", batch_segments=2)


def noise_segments(n_segments: int) -> list[Samples]:
    rng = np.random.default_rng(5)
    return [rng.standard_normal(SEGMENT_SAMPLES, np.float32) for _ in range(n_segments)]


def write_unmarked(directory: Path) -> None:
    """Weights as a user may have them: no manifest, and nothing in the files that tells a stand-in."""
    write_stand_in(directory, size="tiny")
    (directory / "manifest.json").unlink()
    mert, apex = directory / "mert" / "model.safetensors", load_head(directory / "apex")
    save_file(load_file(mert), mert)
    save_head(apex.path, apex.head, apex.layer_mix)


class ExactEngine:
    """MERT in float64: a difference is one of the pipeline."""

    name, device, precision = "exact", "cpu", "fp64"

    def __init__(self, weights_dir: Path) -> None:
        self._mert = load_mert(weights_dir / "mert").double()

    def embed(self, segments: Iterable[Samples]) -> Samples:
        padded = np.stack([np.pad(segment, (0, SEGMENT_SAMPLES - len(segment))) for segment in segments])
        with torch.no_grad():
            pooled: Samples = pooled_states(self._mert, torch.from_numpy(padded).double()).float().numpy()
        return pooled


@pytest.mark.parametrize(
    ("duration_s", "rate_hz", "channels"),
    [
        (60.4838775, 44_100, 2),  # 2,667,339 frames, where float32 rounds the length down
        (30.0, 24_000, 1),
        (30.1, 48_000, 2),
        (12.3, 8_000, 1),
        (3.3, 11_025, 6),
        (1.7, 192_000, 8),
        (2.5, 47_999, 2),
    ],
)
def test_scores_are_those_of_the_plain_implementation(
    scorer: Scorer, tiny_weights: Path, duration_s: float, rate_hz: int, channels: int
) -> None:
    track = make_track(duration_s, rate_hz, channels)
    exact = Scorer(ExactEngine(tiny_weights), scorer._head, scorer.card)
    expected = reference.scores(track, rate_hz, tiny_weights, torch.float64)
    assert exact.score(segments_of(track, rate_hz)) == pytest.approx(expected, abs=FIDELITY / 2)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_scores_of_any_length_of_sound_are_those_of_exact_arithmetic(tiny_weights: Path, engine: str) -> None:
    scorer = Scorer.load(tiny_weights, engine=engine, device="cpu")
    for duration_s in (0.5, 1, 1.7, 3, 4.9, 5, 6.5, 8, 10, 12.3, 14, 15, 17, 19.9, 21, 23, 25, 26, 28.3, 29.9):
        track = make_track(duration_s, 24_000)
        expected = reference.scores(track, 24_000, tiny_weights, torch.float64)
        assert scorer.score(segments_of(track, 24_000)) == pytest.approx(expected, abs=FIDELITY), duration_s


@pytest.mark.parametrize("task", TASK_SCORES)
@pytest.mark.parametrize("n_shared", [2, 3])
def test_every_kind_of_head_gives_its_scores(tmp_path: Path, task: str, n_shared: int) -> None:
    write_stand_in(tmp_path / "w", size="tiny", task=task, n_shared=n_shared)  # type: ignore[arg-type]
    scores = Scorer.load(tmp_path / "w", engine="torch", device="cpu").score(noise_segments(1))
    assert tuple(scores) == TASK_SCORES[task]
    assert all(SCORE_RANGES[name][0] <= score <= SCORE_RANGES[name][1] for name, score in scores.items())


def test_other_music_gives_other_scores(scorer: Scorer) -> None:
    left, right = (scorer.score(segments_of(make_track(5, 24_000, seed=seed), 24_000)) for seed in (1, 2))
    assert all(abs(left[name] - right[name]) > FIDELITY for name in left)


def test_scores_are_rounded_to_four_decimals(scorer: Scorer) -> None:
    scores = scorer.score(noise_segments(1))
    assert all(score == round(score, 4) and type(score) is float for score in scores.values())


@pytest.mark.parametrize("batch_segments", [1, 4])
def test_the_batch_size_does_not_show(scorer: Scorer, tiny_weights: Path, batch_segments: int) -> None:
    other = Scorer.load(tiny_weights, engine="torch", device="cpu", batch_segments=batch_segments)
    assert other.score(noise_segments(4)) == scorer.score(noise_segments(4))


def test_the_scores_of_a_track_are_those_of_the_plain_mean_of_its_segments(scorer: Scorer) -> None:
    embeddings = scorer.embed(noise_segments(3))
    assert embeddings.shape[0] == 3
    assert embeddings.dtype == np.float32
    assert scorer.score_embedding(embeddings.mean(axis=0)) == pytest.approx(scorer.score(noise_segments(3)), abs=2e-4)


def test_progress_is_told_after_each_batch(scorer: Scorer) -> None:
    told: list[int] = []
    scorer.score(noise_segments(3), told.append)
    assert told == [2, 3]


def test_progress_can_stop_a_score_before_the_rest_is_read(scorer: Scorer) -> None:
    class Stopped(Exception): ...

    def stop(n_done: int) -> None:
        raise Stopped

    source = iter(noise_segments(4))
    with pytest.raises(Stopped):
        scorer.score(source, stop)
    assert len(list(source)) == 2


def test_a_track_without_samples_is_too_short(scorer: Scorer) -> None:
    with pytest.raises(AudioTooShort):
        scorer.score([])


class BrokenEngine:
    """Gives NaN, like a device with a fault."""

    name, device, precision = "broken", "cpu", "fp32"

    def embed(self, segments: Iterable[Samples]) -> Samples:
        return np.full((len(list(segments)), 4, 32), np.nan, np.float32)


def test_numbers_that_are_not_finite_are_the_models_fault(scorer: Scorer) -> None:
    broken = Scorer(BrokenEngine(), scorer._head, scorer.card)
    with pytest.raises(ModelOutputInvalid):
        broken.score(noise_segments(1))
    with pytest.raises(ModelOutputInvalid):
        scorer.score_embedding(np.full(32, np.nan))


def test_warming_up_fills_one_batch(scorer: Scorer) -> None:
    scorer.warm_up()


def test_the_card_of_a_stand_in_says_that_it_is_not_trained(scorer: Scorer, tiny_weights: Path) -> None:
    card, entry = scorer.card, read_manifest(tiny_weights).files["apex/apex.safetensors"]
    assert not card.trained
    assert re.fullmatch("stand-in-[0-9a-f]{12}", card.version)
    assert card.checkpoint_sha256 == entry.sha256
    assert (card.engine, card.device, card.precision) == ("torch", "cpu", "fp32")
    assert card.scores == SCORE_RANGES


@pytest.mark.parametrize("part", ["mert/model.safetensors", "apex/apex.safetensors"])
def test_other_weights_in_either_part_are_another_version(scorer: Scorer, tmp_path: Path, part: str) -> None:
    write_stand_in(tmp_path / "a", size="tiny", seed=0)
    write_stand_in(tmp_path / "b", size="tiny", seed=1)
    (tmp_path / "a" / "manifest.json").unlink()
    (tmp_path / "a" / part).write_bytes((tmp_path / "b" / part).read_bytes())
    assert Scorer.load(tmp_path / "a", engine="torch", device="cpu").card.version != scorer.card.version


def test_the_card_of_pulled_weights_says_where_they_came_from(tmp_path: Path) -> None:
    write_unmarked(tmp_path / "w")
    manifest = read_manifest(tmp_path / "w")
    sources: dict[str, FileEntry] = {
        name: dataclasses.replace(entry, source=f"{repo}/file", revision=revision, licence=licence)
        for name, entry in manifest.files.items()
        for folder, repo, revision, licence in [
            ("mert", "m-a-p/MERT-v1-95M", "12af15f", "CC-BY-NC-4.0"),
            ("apex", "amaai-lab/apex", "0ccdf88", "Apache-2.0"),
        ]
        if name.startswith(folder)
    }
    write_manifest(tmp_path / "w", dataclasses.replace(manifest, trained=True, files=sources))
    card = Scorer.load(tmp_path / "w", engine="torch", device="cpu").card
    assert re.fullmatch("apex-[0-9a-f]{12}", card.version)
    assert card.encoder == "m-a-p/MERT-v1-95M@12af15f"
    assert card.licences == {"encoder": "CC-BY-NC-4.0", "head": "Apache-2.0"}


def test_a_faster_precision_says_beside_every_score_by_how_much_it_moves_them(
    tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.inference.precision.SCORE_TOLERANCES", dict.fromkeys(SCORE_RANGES, np.inf))
    card = Scorer.load(tiny_weights, engine="torch", device="cpu", precision="bf16").card
    assert card.precision == card.identity()["precision"] == "bf16"
    assert card.identity()["precision_deviation"] == card.precision_deviation
    assert card.precision_deviation.keys() == SCORE_RANGES.keys()
    assert any(card.precision_deviation.values())


def test_weights_without_a_manifest_load_and_are_taken_for_trained(tmp_path: Path) -> None:
    write_unmarked(tmp_path / "w")
    card = Scorer.load(tmp_path / "w", engine="torch", device="cpu").card
    assert card.trained
    assert card.version.startswith("apex-")
    assert card.encoder.startswith("sha256:")


def test_weights_that_changed_since_the_manifest_are_refused(tmp_path: Path) -> None:
    write_stand_in(tmp_path / "w", size="tiny")
    path = tmp_path / "w" / "apex" / "apex.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(WeightsError, match=r"apex\.safetensors"):
        Scorer.load(tmp_path / "w", engine="torch", device="cpu")


@pytest.mark.parametrize("batch_segments", [1, 2, 4])
def test_tracks_that_share_batches_get_the_scores_they_get_alone(tiny_weights: Path, batch_segments: int) -> None:
    scorer = Scorer.load(tiny_weights, engine="torch", device="cpu", batch_segments=batch_segments)
    segments_in = noise_segments(7)
    tracks = [segments_in[:1], segments_in[1:4], segments_in[4:6], segments_in[6:]]
    n_done: list[int] = []
    outcomes = list(scorer.score_many(tracks, n_done.append))
    assert outcomes == [(track, scorer.score(track)) for track in tracks]
    assert n_done[-1] == 7


def test_a_track_that_cannot_be_scored_does_not_touch_its_neighbours(scorer: Scorer) -> None:
    good, bad = noise_segments(3), np.full(SEGMENT_SAMPLES, np.inf, np.float32)
    tracks = [good, [good[0], bad], [], good[1:]]
    first, broken, empty, last = (outcome for _, outcome in scorer.score_many(tracks))
    assert (first, last) == (scorer.score(good), scorer.score(good[1:]))
    assert isinstance(broken, AudioUndecodable)
    assert isinstance(empty, AudioTooShort)


def test_tracks_are_taken_only_as_far_as_a_batch_needs_them(scorer: Scorer) -> None:
    taken: list[int] = []

    def tracks() -> Iterator[list[Samples]]:
        for number, segment in enumerate(noise_segments(4)):
            taken.append(number)
            yield [segment]

    next(scorer.score_many(tracks()))
    assert taken == [0, 1]


def test_numbers_that_are_not_finite_fail_only_their_track(scorer: Scorer) -> None:
    broken = Scorer(BrokenEngine(), scorer._head, scorer.card)
    assert [type(outcome) for _, outcome in broken.score_many([noise_segments(1)])] == [ModelOutputInvalid]
