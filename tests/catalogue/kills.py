"""Drivers, actors and nodes of Ray killed at random, until all is scored: then every byte is the same.

python -m tests.catalogue.kills [--kills 20] [--tracks 60] [--seed N]
"""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import psutil
import typer

from model.weights.directory import write_stand_in
from tests.catalogue.runs import command, digests, environment, make_catalogue, n_parts, run

#: What may be killed beside the driver, by what its command line holds.
VICTIMS = {"actor": "BucketActor", "node": "raylet/raylet "}
#: How long what a killed driver leaves may live.
END_S = 60.0


def campaign(folder: Path, *, n_kills: int, n_tracks: int, seed: int) -> Counter[str]:
    """Kill so often, in as many outputs as that takes, and compare each; how often what was killed."""
    chance = random.Random(seed)
    write_stand_in(folder / "weights", size="tiny")
    audio, variables = make_catalogue(folder / "audio", n_tracks), environment(folder / "weights")
    run(command(str(audio), str(folder / "whole")), variables, folder / "log")
    whole, killed = digests(str(folder / "whole")), Counter[str]()
    while killed.total() < n_kills:
        out = folder / "killed"
        while not _finished(audio, out, variables, folder / "log", chance, killed, n_kills):
            continue
        if (found := digests(str(out))) != whole:
            raise AssertionError(f"other bytes: {sorted(dict(found.items() ^ whole.items()))}")
        shutil.rmtree(out)
    return killed


def _finished(
    audio: Path, out: Path, variables: dict[str, str], log: Path, chance: random.Random, killed: Counter[str], n: int
) -> bool:
    """Whether a run came to its end; until then something of it is killed again and again."""
    with log.open("ab") as file:
        driver = subprocess.Popen(command(str(audio), str(out)), env=variables, stdout=file, stderr=file)
    family: list[psutil.Process] = []
    while driver.poll() is None:
        before = n_parts(out)
        while n_parts(out) == before and driver.poll() is None:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.3))
        if killed.total() < n and driver.poll() is None:
            family = psutil.Process(driver.pid).children(recursive=True)
            killed[_kill(driver, family, chance)] += 1
    for left in psutil.wait_procs(family, timeout=END_S)[1]:
        with suppress(psutil.NoSuchProcess):
            left.kill()
    if driver.returncode not in (0, 1, -signal.SIGKILL):
        raise AssertionError(f"a run ended with {driver.returncode}\n{log.read_text(errors='replace')[-3_000:]}")
    return driver.returncode == 0


def _kill(driver: "subprocess.Popen[bytes]", family: list[psutil.Process], chance: random.Random) -> str:
    """Kill something of a run; what it was. Where there is none of it, the driver."""
    what = chance.choice(["driver", *VICTIMS])
    found = [process for process in family if what in VICTIMS and VICTIMS[what] in _line(process)]
    with suppress(psutil.NoSuchProcess):
        (chance.choice(found) if found else psutil.Process(driver.pid)).kill()
    return what if found else "driver"


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def main(
    kills: Annotated[int, typer.Option(help="How often something is killed.")] = 20,
    tracks: Annotated[int, typer.Option(help="Tracks of the catalogue.")] = 60,
    seed: Annotated[int | None, typer.Option(help="For the same moments again, as far as they are ours.")] = None,
) -> None:
    """Kill at random, and compare what came of it with an undisturbed run."""
    seed = random.randrange(10_000) if seed is None else seed
    sys.stdout.write(f"seed {seed}\n")
    with tempfile.TemporaryDirectory(prefix="apex-kills-") as folder:
        killed = campaign(Path(folder), n_kills=kills, n_tracks=tracks, seed=seed)
    sys.stdout.write(f"killed {dict(killed)}: every byte is that of an undisturbed run\n")


if __name__ == "__main__":
    typer.run(main)
