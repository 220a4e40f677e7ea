"""Wait estimates from measured numbers, and none where nothing was measured."""

import pytest

from app.api.jobs.wait_estimate import (
    BYTES_PER_S,
    QueueEstimate,
    QueueLoad,
    estimate_duration_s,
    processing_time_s,
    retry_after_s,
)
from app.core.jobs.models import Job, QueuePosition, Run
from model.audio.containers import BY_NAME

NOW = 1_000.0


def test_a_tracks_length_is_guessed_from_its_container_and_never_over_the_limit() -> None:
    assert estimate_duration_s("wav", 1_764_000, 900) == 10.0
    assert estimate_duration_s("mp3", 4_800_000, 900) == 200.0
    assert estimate_duration_s("mp3", 100_000_000, 900) == 900
    assert estimate_duration_s("unheard-of", 16_000, 900) == 1.0
    assert set(BYTES_PER_S) == set(BY_NAME)


def test_a_queue_drains_at_the_rate_of_all_workers() -> None:
    assert processing_time_s(600, 20.0, 3) == 10.0


@pytest.mark.parametrize(("rate", "n_workers"), [(None, 1), (20.0, 0), (0.0, 1)])
def test_without_a_rate_or_a_worker_there_is_no_estimate(rate: float | None, n_workers: int) -> None:
    assert processing_time_s(600, rate, n_workers) is None
    load = QueueLoad(NOW, rate, n_workers, ())
    assert load.wait_s(10) is None
    job = Job(id="job_1", storage_key="1", estimated_s=30)
    assert load.estimate(job, QueuePosition(2, 10.04)) == QueueEstimate(2, 10.0, None, None, None)


def test_a_job_starts_when_what_runs_and_what_waits_before_it_is_done() -> None:
    one_busy = QueueLoad(NOW, rate=10.0, n_workers=1, running=[Run(started_at=NOW - 5, audio_s=300)])
    job = Job(id="job_1", storage_key="1", estimated_s=50)
    assert one_busy.estimate(job, QueuePosition(3, 200.0)) == QueueEstimate(3, 200.0, 45.0, 1045, 1050)
    assert one_busy.wait_s(200.0) == 45


def test_an_idle_worker_begins_at_once() -> None:
    assert QueueLoad(NOW, rate=10.0, n_workers=2, running=()).starts_at(0.0) == NOW


def test_the_estimate_stands_still_until_something_moves() -> None:
    running = [Run(NOW - 10, 300), Run(NOW - 20, 300)]
    estimates = {QueueLoad(NOW + later, 10.0, 2, running).starts_at(400) for later in (0, 1, 5)}
    assert estimates == {NOW - 15 + 50}


def test_a_start_that_is_overdue_is_now() -> None:
    assert QueueLoad(NOW, 10.0, 1, [Run(NOW - 500, 300)]).wait_s(0) == 0


@pytest.mark.parametrize(
    ("wait_s", "position", "pace_s"),
    [(0, 1, 1), (3, 1, 1), (20, 4, 5), (3600, 900, 15), (None, 1, 1), (None, 7, 7), (None, 900, 15)],
)
def test_clients_look_often_near_the_front_and_seldom_behind(wait_s: float | None, position: int, pace_s: int) -> None:
    assert retry_after_s(wait_s, position=position) == pace_s
