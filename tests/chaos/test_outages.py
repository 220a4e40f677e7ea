"""Redis away for a while, in the middle of everything: refusals are quick, running work is kept, the service heals."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from redis import Redis

from tests.chaos.campaign import Plan, environment, redis_url
from tests.chaos.faults import Family
from tests.chaos.scripted import Script
from tests.chaos.service import Running, running

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("outages")
    plan = Plan(seed=0, n_jobs=0, n_faults=0, n_workers=1)
    with running(
        directory / "data", environment=environment(plan, directory), real=False, log=directory / "service.log"
    ) as service:
        yield service


def post(service: Running, script: Script) -> httpx.Response:
    headers = {"Content-Type": "audio/wav", "Connection": "close"}
    return httpx.post(f"{service.url}/score", content=script.track(), headers=headers, timeout=60)


def accepted(service: Running, script: Script) -> str:
    """The id of a track that is sent until it is taken."""
    deadline = time.monotonic() + PATIENCE_S
    while (answer := post(service, script)).status_code != 202:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.2)
    return str(answer.json()["id"])


def once(service: Running, job_id: str, *states: str) -> dict[str, Any]:
    """The job once it is in one of the states."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        answer = httpx.get(f"{service.url}/jobs/{job_id}", timeout=60)
        if answer.status_code == 200 and answer.json()["status"] in states:
            found: dict[str, Any] = answer.json()
            return found
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.1)


@pytest.mark.parametrize(
    "outage_s", [5, pytest.param(30, marks=pytest.mark.long), pytest.param(120, marks=pytest.mark.long)]
)
@pytest.mark.timeout(400)
def test_redis_does_not_answer_for_a_while(service: Running, outage_s: int) -> None:
    processes = Family(service.pid)
    job_id = accepted(service, Script(f"during {outage_s}", run_s=4.0, n_segments=8))
    once(service, job_id, "running")
    workers, [redis] = processes.pids("worker"), processes.pids("redis")
    os.kill(redis, signal.SIGSTOP)
    ends_at = time.monotonic() + outage_s
    try:
        while time.monotonic() < ends_at - 2:
            check_refused(service)
    finally:
        time.sleep(max(ends_at - time.monotonic(), 0))
        os.kill(redis, signal.SIGCONT)
    assert once(service, accepted(service, Script(f"after {outage_s}")), "succeeded")
    job = once(service, job_id, "succeeded")
    if outage_s <= 30:
        assert processes.pids("worker") == workers
        assert job["attempt"] == 1


def check_refused(service: Running) -> None:
    answer = post(service, Script("refused"))
    assert answer.status_code == 503
    assert answer.json()["code"] == "redis_unavailable"
    assert int(answer.headers["Retry-After"]) > 0


def test_a_full_redis_refuses_tracks_and_keeps_its_jobs(service: Running) -> None:
    job_id = accepted(service, Script("in a full Redis", run_s=2.0, n_segments=8))
    once(service, job_id, "running")
    with Redis.from_url(redis_url(service.pid)) as redis:
        redis.config_set("maxmemory", 1)
        check_refused(service)
        redis.config_set("maxmemory", 0)
    assert once(service, job_id, "succeeded")["attempt"] <= 2


def test_a_killed_redis_is_started_again_with_all_that_it_promised(service: Running) -> None:
    processes = Family(service.pid)
    jobs = [accepted(service, Script(f"kept {number}", run_s=0.3)) for number in range(5)]
    workers, [redis] = processes.pids("worker"), processes.pids("redis")
    os.kill(redis, signal.SIGKILL)
    for job_id in jobs:
        assert once(service, job_id, "succeeded")["attempt"] == 1
    assert processes.pids("worker") == workers
    assert processes.pids("redis") != [redis]
