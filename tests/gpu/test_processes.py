"""A context that is lost, a card that two processes share, and children that must not touch it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model.audio.decoder import Decoder
from model.audio.synthesizer import synthesise, write_wav
from model.domain import AudioLimits
from model.inference.engines.torch import TorchEngine
from tests.model.inference.signals import noise, relative_error

pytestmark = pytest.mark.gpu

RATE_HZ = 44_100


def program(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.gpu.program", *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_context_that_a_kernel_broke_is_a_lost_device(tiny_weights: Path) -> None:
    with program("lost", tiny_weights) as process:
        assert process.communicate()[0].splitlines() == ["lost"]


def test_two_processes_on_one_card_get_the_numbers_of_one(
    tiny_weights: Path, tmp_path: Path, on_cpu: TorchEngine
) -> None:
    files = [tmp_path / f"{number}.npy" for number in range(2)]
    with program("share", tiny_weights, files[0]) as one, program("share", tiny_weights, files[1]) as other:
        for process in (one, other):
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        for process in (one, other):
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
    for file in files:
        assert relative_error(np.load(file), on_cpu.embed(noise(4))) < 1e-5


def test_the_decoders_processes_hold_nothing_of_the_device(on_cuda: TorchEngine, tmp_path: Path) -> None:
    on_cuda.embed(noise(1))  # now this process has a context
    write_wav(tmp_path / "track.wav", synthesise(duration_s=1, sample_rate_hz=RATE_HZ), RATE_HZ)
    with Decoder(AudioLimits(), scratch_dir=tmp_path) as decoder:
        decoder.decode(tmp_path / "track.wav").close()
        children = descendants(Path("/proc/self"))
        assert children
        assert not [child for child in children if holds_a_device(child)]


def descendants(process: Path) -> list[Path]:
    pids = " ".join(path.read_text() for path in process.glob("task/*/children")).split()
    children = [Path("/proc") / pid for pid in pids]
    return [*children, *(grandchild for child in children for grandchild in descendants(child))]


def holds_a_device(process: Path) -> bool:
    opened = [path.readlink() for path in (process / "fd").iterdir()]
    return "libcuda" in (process / "maps").read_text() or any("nvidia" in path.name for path in opened)
