"""`apex webhooks`: the process as it runs beside a Redis, what it logs, and how it starts and stops."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from app.core.jobs.models import Job
from app.core.jobs.state_machine import JobStateMachine
from app.core.webhooks.models import event_id
from app.core.webhooks.outbox import Outbox
from tests.app import records
from tests.app.egress.hooks import Reply, hook
from tests.app.egress.sources import source
from tests.conftest import KEYS
from tests.redis_servers import until

APEX = (sys.executable, "-m", "app.cli", "webhooks")
LOOPBACK = {"APEX_WEBHOOK_HOSTS": "127.0.0.1", "APEX_EGRESS_NETWORKS": "127.0.0.0/8"}


@contextmanager
def running(redis_url: str, log: Path, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | LOOPBACK | {"APEX_REDIS_URL": redis_url, "APEX_LOG_LEVEL": "DEBUG"} | settings
    with log.open("wb") as stderr, subprocess.Popen(APEX, env=environment, stderr=stderr) as process:
        try:
            yield process
        finally:
            process.kill()


def secret_of(redis_url: str, *words: str) -> str:
    done = subprocess.run(
        [*APEX, "secret", *words, "--redis-url", redis_url], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_it_delivers_and_logs_neither_urls_nor_secrets_nor_answers(
    redis: Redis, redis_url: str, machine: JobStateMachine, tmp_path: Path
) -> None:
    secret = secret_of(redis_url, "create")
    log = tmp_path / "log"
    with hook(Reply(200, {"X-Header": "header-needle"}, b"answer-needle")) as receiver:
        url = f"{receiver.url}?token=url-needle"
        job = records.succeeded(machine, webhook_url=url, webhook_events=["job.succeeded"])
        with running(redis_url, log) as process:
            outbox = Outbox(redis, KEYS, result_ttl_s=60)
            until(lambda: (outbox.get(event_id(job.id), tenant="open") or pytest.fail("no event"))[1])
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        assert receiver.received[0].verified(secret)["data"]["id"] == job.id
    logged = log.read_text()
    assert event_id(job.id) in logged
    for needle in ("url-needle", "answer-needle", "header-needle", secret.removeprefix("whsec_")):
        assert needle not in logged


def test_a_stop_ends_what_was_begun(redis: Redis, redis_url: str, machine: JobStateMachine, tmp_path: Path) -> None:
    secret_of(redis_url, "create")
    with hook() as receiver, running(redis_url, tmp_path / "log") as process:

        def stop_first(_: object) -> Reply:
            process.send_signal(signal.SIGTERM)
            return Reply()

        receiver.reply = stop_first
        job = records.succeeded(machine, webhook_url=receiver.url, webhook_events=["job.succeeded"])
        assert process.wait(30) == 0
    event, _ = Outbox(redis, KEYS, result_ttl_s=60).get(event_id(job.id), tenant="open") or pytest.fail("no event")
    assert event.status == "delivered"


def test_without_a_host_it_ends_with_a_sentence(redis_url: str, tmp_path: Path) -> None:
    with running(redis_url, tmp_path / "log", APEX_WEBHOOK_HOSTS="") as process:
        assert process.wait(30) == 78
    [said] = (tmp_path / "log").read_text().splitlines()
    assert "APEX_WEBHOOK_HOSTS" in said


def test_secrets_are_made_replaced_and_listed_without_being_shown(redis: Redis, redis_url: str) -> None:
    first = secret_of(redis_url, "create", "--tenant", "acme")
    second = secret_of(redis_url, "rotate", "--tenant", "acme")
    assert first.startswith("whsec_")
    assert first != second
    header, *lines = secret_of(redis_url, "list").splitlines()
    assert [line.split("\t")[0] for line in lines] == ["acme", "acme"]
    assert not {first.removeprefix("whsec_"), second.removeprefix("whsec_")} & set(" ".join(lines).split())


@pytest.mark.parametrize("words", [("create", "--tenant", "acme"), ("rotate", "--tenant", "other")])
def test_what_cannot_be_done_with_secrets_is_said(redis: Redis, redis_url: str, words: tuple[str, ...]) -> None:
    secret_of(redis_url, "create", "--tenant", "acme")
    done = subprocess.run([*APEX, "secret", *words, "--redis-url", redis_url], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "apex webhooks secret" in done.stderr


def test_it_fetches_tracks_and_logs_no_url(
    redis: Redis, redis_url: str, machine: JobStateMachine, data_dir: Path, tmp_path: Path
) -> None:
    log, settings = tmp_path / "log", {"APEX_WEBHOOK_HOSTS": "", "APEX_AUDIO_URL_HOSTS": "127.0.0.1"}
    with source() as server:
        jobs = [
            machine.create(Job(id=f"job_{n}", storage_key=f"job_{n}", source={"url": server.url(path)}))[0]
            for n, path in enumerate(("track", "gone"))
        ]
        with running(redis_url, log, APEX_DATA_DIR=str(data_dir), **settings) as process:
            until(lambda: redis.zcard(KEYS.unfetched) == 0)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
    assert machine.queue.rq.job_ids == ["job_0"]
    assert (records.found(machine, jobs[1]).error or {})["code"] == "url_status"
    logged = log.read_text()
    assert "track fetched" in logged
    assert "hush-hush" not in logged
    assert "127.0.0.1" not in logged
