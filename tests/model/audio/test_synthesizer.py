"""The project's own piece of music is sound in every sense that can be measured."""

import wave
from pathlib import Path

import numpy as np
import pytest

from model.audio.pcm import Samples
from model.audio.synthesizer import SAMPLE_RATE_HZ, synthesise, write_wav


@pytest.fixture(scope="module")
def piece() -> Samples:
    return synthesise(duration_s=12.0)


def test_a_piece_has_the_length_and_rate_that_were_asked_for() -> None:
    samples = synthesise(duration_s=1.5, sample_rate_hz=22_050)
    assert samples.shape == (33_075, 2)
    assert samples.dtype == np.float32


def test_the_same_seed_gives_the_same_piece_and_another_seed_another_one() -> None:
    first, again, other = (synthesise(duration_s=2.0, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other, atol=0.05)


def test_a_piece_is_as_loud_as_music_and_never_clips(piece: Samples) -> None:
    assert np.abs(piece).max() == pytest.approx(10 ** (-1 / 20), abs=0.002)
    assert -24 < 20 * np.log10(np.sqrt(np.mean(piece**2))) < -12
    assert abs(piece.mean()) < 1e-3


def test_a_piece_is_stereo_that_survives_in_mono(piece: Samples) -> None:
    assert 0.5 < np.asarray(np.corrcoef(piece.T))[0, 1] < 0.99


def test_a_piece_fills_the_spectrum_and_falls_off_towards_the_top(piece: Samples) -> None:
    power = np.abs(np.fft.rfft(piece.mean(axis=1))) ** 2
    frequencies = np.fft.rfftfreq(len(piece), 1 / SAMPLE_RATE_HZ)
    edges = (40, 250, 1000, 4000, 16_000)
    bands_db = [
        10 * np.log10(power[(frequencies >= low) & (frequencies < high)].sum() / power.sum())
        for low, high in zip(edges, edges[1:], strict=False)
    ]
    assert bands_db == sorted(bands_db, reverse=True)
    assert bands_db[-1] > -40


def test_a_piece_has_no_hole_and_ends_in_silence(piece: Samples) -> None:
    seconds = piece[: 10 * SAMPLE_RATE_HZ].reshape(10, SAMPLE_RATE_HZ, 2)
    assert np.sqrt(np.mean(seconds**2, axis=(1, 2))).min() > 0.03
    assert np.abs(piece[-100:]).max() < 1e-3


def test_a_wav_file_holds_the_samples_in_16_bits(tmp_path: Path, piece: Samples) -> None:
    write_wav(tmp_path / "piece.wav", piece, SAMPLE_RATE_HZ)
    with wave.open(str(tmp_path / "piece.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, SAMPLE_RATE_HZ)
        read = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2) / 32_767
    assert np.abs(read - piece).max() <= 0.5 / 32_767 + 1e-6


def test_samples_beyond_full_scale_are_clipped_not_wrapped(tmp_path: Path) -> None:
    write_wav(tmp_path / "loud.wav", np.array([[2.0], [-2.0]], np.float32), 8_000)
    with wave.open(str(tmp_path / "loud.wav")) as file:
        assert np.frombuffer(file.readframes(2), "<i2").tolist() == [32_767, -32_767]
