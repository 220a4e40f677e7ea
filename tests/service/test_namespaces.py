"""Namespaces: nothing of a service is outside its own, and two on one Redis and one folder do not see each other."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from app.core.deployment import Deployment
from app.core.jobs.models import Job, JobState
from app.core.jobs.queue import ScoreQueue
from app.core.jobs.queue_status import QueueStatus
from app.core.jobs.state_machine import JobStateMachine
from app.core.redis.client import text
from app.core.settings import ApiSettings
from app.core.storage.folder import FolderStorage
from app.main import create_app
from tests.app.api.asgi import RAW, WAV
from tests.app.api.live import live
from tests.chaos.campaign import redis_url as url_of_private_redis
from tests.chaos.scripted import Script
from tests.chaos.service import running
from tests.worker.fakes import outcome, score_track
from tests.worker.workers import worker
from worker.main import reconciler

#: What RQ names: its sets of queues and of workers, which nothing here reads, and keys that carry the queue's name or a
#: random id.
RQS_KEYS = re.compile(
    r"rq:(queues|workers|workers:stage\.scores|worker:[0-9a-f]{32}|(queue|wip|finished|clean_registries):stage\.scores"
    r"(:intermediate)?|(job|executions):job_[0-9a-f]{32})"
)


def test_a_whole_service_keeps_to_its_namespace(tmp_path: Path) -> None:
    (tmp_path / "weights/mert").mkdir(parents=True)
    environment = {"APEX_NAMESPACE": "stage", "APEX_WEIGHTS_DIR": str(tmp_path / "weights")}
    with (
        running(tmp_path / "data", environment=environment, log=tmp_path / "log") as service,
        httpx.Client(base_url=service.url, timeout=60) as client,
        Redis.from_url(url_of_private_redis(service.pid)) as redis,
    ):
        use_all_of(client)
        names = {text(key) for key in redis.scan_iter()}
    assert [name for name in names if not name.startswith("stage:") and not RQS_KEYS.fullmatch(name)] == []
    assert len({name.split(":")[1] for name in names if name.startswith("stage:")}) >= 8
    assert (tmp_path / "data/namespaces/stage/audio/.deployment").exists()
    assert not (tmp_path / "data/audio").exists()


def use_all_of(client: httpx.Client) -> None:
    """A job that is waited for, one with an idempotency key, a batch, one that is deleted; what else can be read."""
    first = client.post("/score", content=Script("a").track(), headers={**RAW, "Prefer": "wait=30"}).json()
    assert first["status"] == "succeeded"
    assert client.post("/score", content=Script("b").track(), headers={**RAW, "Idempotency-Key": "k"}).is_success
    files = [("files", (f"{name}.wav", Script(name).track())) for name in "cd"]
    assert client.post("/batches", files=files, headers={"Prefer": "wait=30"}).json()["done"]
    assert client.delete(f"/jobs/{first['id']}").status_code == 204
    for path in ("/readyz", "/capacity", "/model", "/jobs"):
        assert client.get(path).is_success


@dataclass
class Side:
    """One of two services, each with a worker and a reconciler of its own."""

    settings: ApiSettings
    client: httpx.Client
    redis: Redis

    @property
    def machine(self) -> JobStateMachine:
        queue = ScoreQueue(self.redis, name=self.settings.rq_queue_name)
        return JobStateMachine(self.redis, self.settings.redis_keys, queue=queue, result_ttl_s=60)

    def post(self, **headers: str) -> dict[str, Any]:
        answer = self.client.post("/score", content=WAV, headers=RAW | headers)
        assert answer.status_code == 202
        body: dict[str, Any] = answer.json()
        return body

    def reconcile(self) -> list[str]:
        passes = reconciler(self.settings)
        return [job_id for _ in range(3) for job_id in passes.run()]

    def work(self) -> None:
        task = score_track(self.machine, self.settings.data_dir)
        task.storage = FolderStorage(self.settings.audio_dir)
        task.deployment = Deployment(self.redis, self.settings.redis_keys, task.storage)
        task.queue_status = QueueStatus(self.redis, self.settings.redis_keys)
        worker(task, queue_name=self.settings.rq_queue_name).work(burst=True, logging_level="WARNING")


@pytest.fixture
def sides(redis: Redis, redis_url: str, data_dir: Path) -> Iterator[list[Side]]:
    """On one Redis and one data folder."""
    both = [ApiSettings(data_dir=data_dir, redis_url=redis_url, namespace=name) for name in ("apex", "stage")]
    with ExitStack() as stack:
        serving = [stack.enter_context(live(create_app(settings))) for settings in both]
        clients = [stack.enter_context(each.client()) for each in serving]
        yield [Side(settings, client, redis) for settings, client in zip(both, clients, strict=True)]


def test_two_namespaces_do_not_see_each_other(sides: list[Side]) -> None:
    production, staging = sides
    job = production.post(**{"Idempotency-Key": "k"})
    assert staging.client.get(f"/jobs/{job['id']}").status_code == 404
    assert staging.client.get("/jobs").json()["items"] == []
    assert staging.client.get("/capacity").json()["queue"]["jobs"] == 0
    assert staging.post(**{"Idempotency-Key": "k"})["id"] != job["id"]


def test_a_reconciler_and_a_worker_leave_the_other_namespace_alone(sides: list[Side]) -> None:
    production, staging = sides
    lost = Job(id=production.post()["id"], storage_key="")
    production.redis.delete(*production.machine.queue.keys(lost.id)[1:])
    staging.post()
    assert staging.reconcile() == []
    staging.work()
    assert outcome(production.machine, lost).status is JobState.QUEUED
    assert production.reconcile() == [lost.id]
    production.work()
    assert outcome(production.machine, lost).status is JobState.SUCCEEDED


def test_workers_are_counted_in_their_own_namespace(sides: list[Side]) -> None:
    production, staging = sides
    task = score_track(staging.machine, staging.settings.data_dir)
    idle = worker(task, queue_name=staging.settings.rq_queue_name)
    idle.register_birth()
    idle.heartbeat()
    assert [side.machine.queue.n_workers() for side in sides] == [0, 1]
    assert production.client.get("/capacity").json()["workers_alive"] == 0
