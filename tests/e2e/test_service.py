"""From `apex up` to seven scores, through every real part; and what happens when something breaks on the way."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model.audio import synthesizer
from model.domain import SCORE_RANGES
from tests.e2e.service import Service, children
from tests.model import tracks


@pytest.fixture(scope="session")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("music") / "music.wav"
    synthesizer.write_wav(path, synthesizer.synthesise(duration_s=40.0), synthesizer.SAMPLE_RATE_HZ)
    return path


_takes = itertools.count(1)


def another_take(music: Path) -> bytes:
    """The same music but for its last sample: a track whose scores are not known yet."""
    return music.read_bytes()[:-2] + next(_takes).to_bytes(2, "little")


def test_an_uploaded_track_gets_the_same_scores_as_on_the_command_line(
    service: Service, music: Path, tiny_weights: Path
) -> None:
    job = service.score(music.read_bytes())
    assert job["status"] == "succeeded"
    assert list(job["result"]["scores"]) == list(SCORE_RANGES)
    apex = [sys.executable, "-m", "app.cli", "score", "--json", "--device", "cpu", "--weights", str(tiny_weights)]
    line = json.loads(subprocess.run([*apex, str(music)], capture_output=True, check=True).stdout)
    # The two processes have different threads, which add in different orders; published scores have four decimals.
    assert line["scores"] == pytest.approx(job["result"]["scores"], abs=1e-3)


def test_untrained_weights_say_so_everywhere(service: Service, music: Path) -> None:
    assert service.score(another_take(music))["model"]["trained"] is False
    assert service.client.get("/model").json()["loaded"]["trained"] is False


def test_a_raw_body_is_scored_as_well(service: Service, music: Path) -> None:
    answer = service.client.post("/score", content=another_take(music), headers={"Content-Type": "audio/wav"})
    assert answer.status_code == 202
    assert service.finished(answer.json()["id"])["status"] == "succeeded"


def test_a_hangup_ends_no_process(service: Service) -> None:
    before = [service.pid, *children(service.pid)]
    for pid in before:
        os.kill(pid, signal.SIGHUP)
    time.sleep(0.5)
    assert [service.pid, *children(service.pid)] == before
    assert service.client.get("/livez").status_code == 200


def test_a_worker_killed_in_the_middle_of_a_job_is_restarted_and_the_job_succeeds(service: Service) -> None:
    long_track = tracks.wav(
        tracks.ramp(801 * 8_000), 8_000
    )  # of a length no other test sends: its scores are not known
    job_id = service.submit(long_track).json()["id"]
    [pid] = service.worker_pids()
    while service.job(job_id)["status"] == "queued":
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    job = service.finished(job_id)
    assert (job["status"], job["attempt"]) == ("succeeded", 2)
    assert service.worker_pids() != [pid]


HOSTILE = {
    "text": (b"I am not an MP3 file. " * 100, "unsupported_media_type"),
    "nothing": (b"", "unsupported_media_type"),
    "playlist": (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", "unsupported_media_type"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_audio_is_refused_at_the_door(service: Service, kind: str) -> None:
    body, code = HOSTILE[kind]
    answer = service.submit(body, "track.mp3")
    assert answer.status_code == 415
    assert answer.json()["code"] == code


def test_bad_audio_fails_its_job_and_nothing_else(service: Service, music: Path) -> None:
    before = service.worker_pids()
    bad = {
        "audio_undecodable": tracks.track_file("flac-16")[:-5_000],
        "audio_too_long": tracks.long_silent_flac(duration_s=24 * 3600),
        "audio_silent": tracks.long_silent_flac(duration_s=5),
        "audio_too_short": tracks.wav(tracks.ramp(4_000), 8_000),
    }
    for code, body in bad.items():
        job = service.score(body)
        assert job["status"] == "failed"
        assert job["error"]["code"] == code
    assert service.score(another_take(music))["status"] == "succeeded"
    assert service.worker_pids() == before
