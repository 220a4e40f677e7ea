"""A short piece of music that the project makes itself: chords, bass, melody and drums, with numpy alone.

It is what the demo scores and what the tests decode, so that no recording has to be shipped.
"""

import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.arrays import Floats
from model.audio.pcm import Samples

SAMPLE_RATE_HZ = 44_100
BEAT_S = 0.625  # 96 beats a minute
BEATS_PER_BAR = 4
BARS_PER_SECTION = 4
PEAK = 0.89  # -1 dBFS: room for the overshoot of a lossy encoder

MAJOR = (0, 2, 4, 5, 7, 9, 11)
PENTATONIC = (0, 2, 4, 7, 9)  # no semitone, so a melody on it rubs against none of the chords
#: Roots as degrees of the major scale, one chord a bar.
PROGRESSIONS = ((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4), (0, 2, 3, 4))
#: Note lengths in beats; each fills a bar.
RHYTHMS = ((1, 0.5, 0.5, 1, 1), (1.5, 0.5, 1, 1), (0.5, 0.5, 1, 0.5, 0.5, 1), (1.5, 1.5, 1))
#: What plays in each section of four bars; the list starts again when it ends.
SECTIONS = (
    ("pad", "bass", "melody"),
    ("pad", "bass", "drums"),
    ("pad", "bass", "melody", "drums"),
    ("pad", "bass", "melody", "drums"),
)
#: Onsets in beats within a bar.
DRUM_PATTERN = {"kick": (0, 2, 2.5), "snare": (1, 3), "hat": (0.5, 1.5, 2.5, 3, 3.5)}
BASS_PATTERN = ((0, 1.5), (1.5, 0.5), (2, 1), (3.5, 0.5))  # onset and length in beats


@dataclass(frozen=True)
class Note:
    """One sound to be made. `pitch` is a MIDI number, which drums ignore."""

    voice: str
    start_s: float
    length_s: float
    pitch: float = 0.0
    pan: float = 0.0


@dataclass(frozen=True)
class Voice:
    """How a kind of note sounds: `play(times_s, note, rate_hz, rng)` gives its waveform; `tail_s` rings on after it."""

    play: Callable[[Floats, Note, int, np.random.Generator], Floats]
    gain: float
    tail_s: float = 0.0


def synthesise(*, duration_s: float = 40.0, sample_rate_hz: int = SAMPLE_RATE_HZ, seed: int = 0) -> Samples:
    """A little piece in a major key, always the same for one seed, which picks key, progression and melody.

    Returns float32 (round(duration_s * sample_rate_hz), 2) with a peak of -1 dBFS.
    """
    rng = np.random.default_rng(seed)
    n_samples = round(duration_s * sample_rate_hz)
    mix = np.zeros((n_samples, 2))
    for note in _compose(duration_s, rng):
        _add(mix, note, sample_rate_hz, rng)
    mix = _reverberate(mix, sample_rate_hz, rng) * _fade(n_samples, sample_rate_hz)
    peak = np.abs(mix).max(initial=0.0)
    return (mix * (PEAK / peak if peak else 1.0)).astype(np.float32)


def write_wav(path: Path, samples: Samples, sample_rate_hz: int) -> None:
    """Write 16-bit PCM. `samples` is float (n, channels); what lies beyond full scale is clipped."""
    pcm = np.rint(np.clip(samples, -1.0, 1.0) * 32_767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(pcm.shape[1])
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(pcm.tobytes())


def _compose(duration_s: float, rng: np.random.Generator) -> Iterator[Note]:
    key = int(rng.integers(55, 63))
    progression = PROGRESSIONS[rng.integers(len(PROGRESSIONS))]
    motifs = [_motif(rng) for _ in range(2)]
    bar_s = BEAT_S * BEATS_PER_BAR
    for bar in range(int(np.ceil(duration_s / bar_s))):
        chord = [key + _degree(MAJOR, progression[bar % len(progression)] + step) for step in (0, 2, 4)]
        for voice in SECTIONS[bar // BARS_PER_SECTION % len(SECTIONS)]:
            yield from _BAR_WRITERS[voice](bar * bar_s, chord, key, motifs[bar % 4 == 3])


Motif = list[tuple[float, int]]  # length in beats, step on the pentatonic scale


def _motif(rng: np.random.Generator) -> Motif:
    rhythm = RHYTHMS[rng.integers(len(RHYTHMS))]
    steps = np.clip(np.cumsum(rng.integers(-2, 3, len(rhythm))) + 2, -1, 6)
    return [(beats, int(step)) for beats, step in zip(rhythm, steps, strict=True)]


def _degree(scale: tuple[int, ...], step: int) -> int:
    octave, position = divmod(step, len(scale))
    return 12 * octave + scale[position]


def _fold(pitch: int, lowest: int) -> int:
    return lowest + (pitch - lowest) % 12


def _write_pad(start_s: float, chord: list[int], _key: int, _motif: Motif) -> Iterator[Note]:
    for pitch, pan in zip(chord, (-0.5, 0.0, 0.5), strict=True):
        yield Note("pad", start_s, BEAT_S * BEATS_PER_BAR, _fold(pitch, 55), pan)


def _write_bass(start_s: float, chord: list[int], _key: int, _motif: Motif) -> Iterator[Note]:
    for onset, beats in BASS_PATTERN:
        yield Note("bass", start_s + onset * BEAT_S, beats * BEAT_S, _fold(chord[0], 34))


def _write_melody(start_s: float, chord: list[int], key: int, motif: Motif) -> Iterator[Note]:
    for index, (beats, step) in enumerate(motif):
        pitch = key + 12 + _degree(PENTATONIC, step)
        if index == 0:  # the strong beat belongs to the chord
            pitch = min((_fold(tone, pitch - 6) for tone in chord), key=lambda tone: abs(tone - pitch))
        yield Note("melody", start_s, beats * BEAT_S, pitch, 0.25 if index % 2 else -0.25)
        start_s += beats * BEAT_S


def _write_drums(start_s: float, _chord: list[int], _key: int, _motif: Motif) -> Iterator[Note]:
    for voice, onsets in DRUM_PATTERN.items():
        for onset in onsets:
            yield Note(voice, start_s + onset * BEAT_S, 0.0, pan=0.3 if voice == "hat" else 0.0)


_BAR_WRITERS: dict[str, Callable[[float, list[int], int, Motif], Iterator[Note]]] = {
    "pad": _write_pad,
    "bass": _write_bass,
    "melody": _write_melody,
    "drums": _write_drums,
}


def _add(mix: Floats, note: Note, rate_hz: int, rng: np.random.Generator) -> None:
    voice = VOICES[note.voice]
    start = round(note.start_s * rate_hz)
    n_samples = min(round((note.length_s + voice.tail_s) * rate_hz), len(mix) - start)
    if n_samples <= 0:
        return
    sound = voice.gain * voice.play(np.arange(n_samples) / rate_hz, note, rate_hz, rng)
    angle = (note.pan + 1) * np.pi / 4  # equal power
    mix[start : start + n_samples, 0] += np.cos(angle) * sound
    mix[start : start + n_samples, 1] += np.sin(angle) * sound


def _hz(pitch: float) -> float:
    return float(440.0 * 2 ** ((pitch - 69) / 12))


def _partials(times_s: Floats, frequency_hz: float, amplitudes: tuple[float, ...], rate_hz: int) -> Floats:
    """A sum of harmonics, leaving out those that the rate cannot carry."""
    sound = np.zeros_like(times_s)
    for number, amplitude in enumerate(amplitudes, start=1):
        if number * frequency_hz < rate_hz / 2:
            sound += amplitude * np.sin(2 * np.pi * number * frequency_hz * times_s)
    return sound


def _swell(times_s: Floats, length_s: float, attack_s: float, release_s: float) -> Floats:
    rise = np.clip(times_s / attack_s, 0, 1)
    fall = np.clip((length_s + release_s - times_s) / release_s, 0, 1)
    return np.asarray(np.sin(np.pi / 2 * rise) ** 2 * np.sin(np.pi / 2 * fall) ** 2)


def _play_pad(times_s: Floats, note: Note, rate_hz: int, _rng: np.random.Generator) -> Floats:
    spectrum = (1.0, 0.5, 0.3, 0.18, 0.1, 0.06)
    detuned = (_partials(times_s, _hz(note.pitch + cents / 100), spectrum, rate_hz) for cents in (-6, 0, 7))
    return sum(detuned, np.zeros_like(times_s)) * _swell(times_s, note.length_s, attack_s=0.25, release_s=0.5)


def _play_bass(times_s: Floats, note: Note, rate_hz: int, _rng: np.random.Generator) -> Floats:
    sound = _partials(times_s, _hz(note.pitch), (1.0, 0.45, 0.2, 0.08), rate_hz)
    return sound * np.exp(-1.5 * times_s) * _swell(times_s, note.length_s, attack_s=0.01, release_s=0.05)


def _play_melody(times_s: Floats, note: Note, rate_hz: int, _rng: np.random.Generator) -> Floats:
    # A struck bar: the higher the partial, the sooner it is gone.
    frequency_hz = _hz(note.pitch)
    struck = (
        _partials(times_s, number * frequency_hz, (amplitude,), rate_hz) * np.exp(-(2.0 + 1.5 * number) * times_s)
        for number, amplitude in ((1, 1.0), (2, 0.4), (3, 0.25), (4, 0.12), (6, 0.08))
    )
    return sum(struck, np.zeros_like(times_s)) * _swell(times_s, note.length_s, attack_s=0.004, release_s=0.6)


def _play_kick(times_s: Floats, _note: Note, _rate_hz: int, _rng: np.random.Generator) -> Floats:
    # The phase of a pitch that falls from 150 Hz to 48 Hz.
    phase = 2 * np.pi * (48 * times_s + 102 / 30 * (1 - np.exp(-30 * times_s)))
    return np.sin(phase) * np.exp(-9 * times_s)


def _play_snare(times_s: Floats, _note: Note, rate_hz: int, rng: np.random.Generator) -> Floats:
    body = _partials(times_s, 185.0, (1.0, 0.5), rate_hz) * np.exp(-22 * times_s)
    return body + 0.7 * rng.standard_normal(len(times_s)) * np.exp(-16 * times_s)


def _play_hat(times_s: Floats, _note: Note, _rate_hz: int, rng: np.random.Generator) -> Floats:
    # The difference of white noise has lost its lows.
    return np.diff(rng.standard_normal(len(times_s) + 1)) * np.exp(-60 * times_s)


VOICES: dict[str, Voice] = {
    "pad": Voice(_play_pad, gain=0.07, tail_s=0.5),
    "bass": Voice(_play_bass, gain=0.42, tail_s=0.05),
    "melody": Voice(_play_melody, gain=0.34, tail_s=0.6),
    "kick": Voice(_play_kick, gain=0.75, tail_s=0.5),
    "snare": Voice(_play_snare, gain=0.2, tail_s=0.35),
    "hat": Voice(_play_hat, gain=0.09, tail_s=0.12),
}


def _reverberate(mix: Floats, rate_hz: int, rng: np.random.Generator) -> Floats:
    """Add a small hall: decaying noise, different on each side, convolved with the dry sound."""
    times_s = np.arange(round(1.2 * rate_hz)) / rate_hz
    hall = rng.standard_normal((len(times_s), 2)) * np.exp(-4.5 * times_s)[:, None]
    hall /= np.sqrt((hall**2).sum(axis=0))
    size = 1 << (len(mix) + len(hall)).bit_length()
    wet = np.fft.irfft(np.fft.rfft(mix, size, axis=0) * np.fft.rfft(hall, size, axis=0), size, axis=0)
    return mix + 0.16 * wet[: len(mix)]


def _fade(n_samples: int, rate_hz: int) -> Floats:
    """Gains (n, 1): 10 ms in and up to 2 s out, so that the piece ends and is not cut."""
    position = np.arange(n_samples)
    out = max(1, min(2 * rate_hz, n_samples // 4))
    rise = np.clip(position / max(1, rate_hz // 100), 0, 1)
    fall = np.clip((n_samples - 1 - position) / out, 0, 1)
    return np.asarray((rise * fall)[:, None])
