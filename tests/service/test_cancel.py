"""Front end and worker together: a run that its client ends."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis

from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.live import live
from tests.worker.fakes import accepted, score_track, stored
from worker.score_track import ScoreTrack

PATIENCE_S = 60.0


@pytest.fixture
def app(data_dir: Path, redis_url: str, redis: Redis) -> FastAPI:
    return create_app(ApiSettings(data_dir=data_dir, redis_url=redis_url), redis=redis)


@dataclass
class Segments:
    """What becomes of a run's three segments; each ends when it may."""

    begun: threading.Event = field(default_factory=threading.Event)
    may_end: threading.Event = field(default_factory=threading.Event)
    n_ended: int = 0

    def play(self) -> None:
        self.begun.set()
        assert self.may_end.wait(PATIENCE_S)
        self.n_ended += 1


def slow_run(app: FastAPI, data_dir: Path) -> tuple[ScoreTrack, Segments]:
    segments = Segments()
    return score_track(app.state.services.machine, data_dir, on_segment=segments.play), segments


@pytest.mark.parametrize(
    ("method", "path", "status", "after"),
    [("POST", "/cancel", 202, (200, "canceled")), ("DELETE", "", 204, (410, None))],
)
def test_a_run_ends_within_one_segment_and_without_a_result(
    app: FastAPI, data_dir: Path, method: str, path: str, status: int, after: tuple[int, str | None]
) -> None:
    job = accepted(app.state.services.machine, data_dir)
    task, segments = slow_run(app, data_dir)
    run = threading.Thread(target=task, args=(job.id,))
    run.start()
    assert segments.begun.wait(PATIENCE_S)
    with live(app) as server, server.client() as client:
        assert client.request(method, f"/jobs/{job.id}{path}").status_code == status
        segments.may_end.set()
        outcome = terminal(client, job.id)
        run.join()
        assert (outcome.status_code, outcome.json().get("status") if after[1] else None) == after
        assert segments.n_ended == 1
        assert stored(data_dir) == []
        assert not_a_result(client.get(f"/jobs/{job.id}").json())


def terminal(client: httpx.Client, job_id: str) -> httpx.Response:
    return client.get(f"/jobs/{job_id}", headers={"Prefer": "wait=10"})


def not_a_result(body: dict[str, Any]) -> bool:
    return body.get("result") is None


def test_a_canceled_job_in_the_queue_is_harmless_to_its_worker(app: FastAPI, data_dir: Path) -> None:
    job = accepted(app.state.services.machine, data_dir)
    task, segments = slow_run(app, data_dir)
    with live(app) as server, server.client() as client:
        assert client.post(f"/jobs/{job.id}/cancel").json()["status"] == "canceled"
        task(job.id)
        assert client.get(f"/jobs/{job.id}").json()["status"] == "canceled"
    assert not segments.begun.is_set()
