"""A campaign of mutated files against the real decoder, sandbox included.

A finding is a file whose child crashed, ran into its deadline or over the time a small file may take, that got another
answer the second time, or that was blamed on this machine. Every other refusal is an answer.
"""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import BinaryIO

from model.audio.decode_errors import DECODE_ERRORS, decode_error
from model.audio.decoder import Decoder
from model.domain import AudioError, AudioLimits
from tests.fuzz.mutations import mutated
from tests.model import tracks
from tests.model.audio.files.channels import (
    PCE_LAYOUTS,
    ambisonic,
    custom_layout,
    custom_layout_in_mp4,
    described_by_itself,
    many_channels,
)
from tests.model.audio.files.odd import ODD_FILES

LIMITS = AudioLimits(min_duration_s=0.1, max_duration_s=60.0)
MEMORY_BYTES = 512 << 20
TIMEOUT_S = 10.0
#: No file of a campaign is longer than a second or so: more than this is an attack on time.
SLOW_S = 2.0
#: One file in so many is decoded twice.
REPEAT_EVERY = 50

#: As many files are given to the threads at a time.
BLOCK_FILES = 1000

#: Odd files that take ways through the scans which good ones do not.
ODD_SEEDS = (
    "mp3 behind two ID3v2 tags", "flac-16 behind an APEv2 tag", "adts behind 5000 bytes of junk",
    "wav-16 behind 731 zeros", "WAV with two data chunks", "WAV with 24 valid bits in 32", "WAV with both sizes 0",
    "AIFF with the sound before its description", "CAF of AAC", "MP3 with ID3v2 tags between its frames",
    "MP3 with junk between its frames", "FLAC of two joined", "Vorbis whose headers come twice",
    "ogg-opus with the end flag on an empty packet", "two Vorbis streams at once", "webm-opus with a gap of 0.2 s",
    "MOV that starts with mdat", "MP4 whose mdat has no size",
)  # fmt: skip

SCORED = "decodes"
SLOW, UNSTABLE, MACHINE = "too slow", "unstable", "blamed on the machine"
FINDINGS = frozenset({"crash", "time", SLOW, UNSTABLE, MACHINE})

_RATE_HZ = 48_000  # the one rate that every encoder takes
_REASONS = {str(decode_error(reason, LIMITS)): reason for reason in DECODE_ERRORS}


@dataclass(frozen=True)
class Outcome:
    """What became of one file, how long it took, and what the samples were if it was looked at."""

    name: str
    took_s: float
    sha256: str = ""


@dataclass
class Tally:
    """What a campaign found out."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[int, str]] = field(default_factory=list)
    slowest_s: float = 0.0
    n_repeated: int = 0

    def add(self, index: int, outcome: Outcome, *, repeated: bool) -> None:
        self.outcomes[outcome.name] += 1
        self.slowest_s = max(self.slowest_s, outcome.took_s)
        self.n_repeated += repeated
        if outcome.name in FINDINGS:
            self.findings.append((index, outcome.name))


@cache
def seeds() -> tuple[bytes, ...]:
    """A short good file of every kind that can be written, mono and stereo, and some odd ones."""
    signals = [tracks.music(0.2, _RATE_HZ, channels) for channels in (1, 2)]
    good = [tracks.track_file(kind, signal, _RATE_HZ) for kind in tracks.KINDS for signal in signals]
    tagged = tracks.id3(200) + tracks.track_file("mp3", tracks.music(0.3, 24_000, 1), 24_000)
    surround = tracks.track_file("flac-16", tracks.music(0.2, 24_000, 6), 24_000)
    odd = [tagged, surround, tracks.video(with_sound=True), tracks.two_tracks(), tracks.long_silent_flac(20)]
    return tuple(good + odd + _many_channels() + [ODD_FILES[name].build() for name in ODD_SEEDS])


def _many_channels() -> list[bytes]:
    """From 3 to 24 channels, planar and not, in usual layouts and in others."""
    interleaved = [many_channels("wav", "pcm_s16le", channels, 0.2) for channels in (3, 8, 16, 24)]
    planar = [
        many_channels(muxer, codec, 8, 0.2)
        for muxer, codec in (("ogg", "libopus"), ("webm", "libopus"), ("ipod", "aac"), ("adts", "aac"))
    ]
    vorbis = [tracks.track_file("ogg-vorbis", tracks.music(0.2, _RATE_HZ, channels), _RATE_HZ) for channels in (8, 24)]
    custom = [custom_layout(*kind, 6, 0.2) for kind in (("mov", "pcm_s16le"), ("aiff", "pcm_s16be"))]
    custom += [custom_layout_in_mp4(channels, 0.2) for channels in (3, 6)]
    custom += [described_by_itself(muxer, layout, 0.2) for muxer in ("ipod", "adts") for layout in PCE_LAYOUTS]
    custom += [ambisonic(muxer, 0.2) for muxer in ("ogg", "webm")]
    return interleaved + planar + vorbis + custom


def file_of(seed: int, index: int) -> bytes:
    """The same file for the same two numbers."""
    rng = Random(f"{seed}/{index}")
    return mutated(rng.choice(seeds()), rng.choice(seeds()), rng)


@contextmanager
def decoder(scratch_dir: Path) -> Iterator[Decoder]:
    """The decoder of a campaign: tight limits, for its files are small."""
    with Decoder(LIMITS, timeout_s=TIMEOUT_S, memory_bytes=MEMORY_BYTES, scratch_dir=scratch_dir) as decoder:
        yield decoder


def run(decoder: Decoder, *, seed: int, n_files: int, n_threads: int) -> Iterator[tuple[int, Tally]]:
    """Decodes files 0 to n; yields how many are done, and the tally, as it goes."""
    tally = Tally()
    with ThreadPoolExecutor(n_threads) as pool:
        for start in range(0, n_files, BLOCK_FILES):
            indices = range(start, min(start + BLOCK_FILES, n_files))
            for index, outcome in zip(indices, pool.map(partial(judge, decoder, seed), indices), strict=True):
                tally.add(index, outcome, repeated=_is_repeated(index))
                yield index + 1, tally
    settle(decoder, seed, tally)
    yield n_files, tally


def settle(decoder: Decoder, seed: int, tally: Tally) -> None:
    """Decodes the slow files again, alone: the machine may have been busy. Those that are slow still are findings."""
    for index, _ in [finding for finding in tally.findings if finding[1] == SLOW]:
        outcome = judge(decoder, seed, index)
        if outcome.name != SLOW:
            tally.findings.remove((index, SLOW))
            tally.outcomes[SLOW] -= 1
            tally.add(index, outcome, repeated=False)


def judge(decoder: Decoder, seed: int, index: int) -> Outcome:
    """What becomes of one file, decoded a second time where that is its turn."""
    data = file_of(seed, index)
    outcome = decode(decoder, data, hashed=_is_repeated(index))
    if outcome.took_s > SLOW_S and outcome.name not in FINDINGS:
        return Outcome(SLOW, outcome.took_s)
    if _is_repeated(index):
        again = decode(decoder, data, hashed=True)
        if (again.name, again.sha256) != (outcome.name, outcome.sha256):
            return Outcome(UNSTABLE, outcome.took_s)
    return outcome


def decode(decoder: Decoder, data: bytes, *, hashed: bool = False) -> Outcome:
    """Decodes one file as a worker does."""
    began = time.monotonic()
    try:
        with in_memory(data) as file, decoder.decode(file) as track:
            took_s = time.monotonic() - began
            sha256 = hashlib.sha256(b"".join(segment.tobytes() for segment in track.segments())) if hashed else None
        return Outcome(SCORED, took_s, sha256.hexdigest() if sha256 else "")
    except AudioError as error:
        return Outcome(_REASONS[str(error)], time.monotonic() - began)
    except OSError:
        return Outcome(MACHINE, time.monotonic() - began)


@contextmanager
def in_memory(data: bytes) -> Iterator[BinaryIO]:
    """The bytes as a regular file without a name."""
    with open(os.memfd_create("track"), "w+b", buffering=0) as file:
        file.write(data)
        yield file


def _is_repeated(index: int) -> bool:
    return index % REPEAT_EVERY == 0
