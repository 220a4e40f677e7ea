"""`deploy/redis.acl`: the front end and the worker can do all that they do, and nothing else."""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError
from rq import Worker
from rq.job import Job as RqJob

from app.core.deployment import Deployment
from app.core.jobs.backlog import BacklogLimits
from app.core.jobs.models import Job, JobState, new_job_id
from app.core.redis.client import connect
from app.core.settings import ApiSettings
from app.core.storage.folder import FolderStorage
from app.core.webhooks.models import Attempt, DeliveryStatus
from app.core.webhooks.outbox import Outbox
from app.core.webhooks.secrets import WebhookSecrets
from app.core.worker_info import WorkerInfo
from app.main import create_app
from tests.app.api.asgi import RAW, WAV
from tests.app.records import key_of
from tests.conftest import KEYS, state_machine
from tests.redis_servers import MASTER_NAME, server, until
from tests.worker.fakes import accepted, outcome, score_track
from tests.worker.workers import worker
from worker.reconciler import Reconciler

DEPLOY = Path(__file__).parents[2] / "deploy"
ACL = (DEPLOY / "redis.acl").read_text()
START = (DEPLOY / "redis.sh").read_text()
#: redis-py introduces itself where it may, and goes on where it may not. Redis 7.0 does not know the command at all.
INTRODUCTION = "client|setinfo"
#: Readiness asks how often the append-only file is synced, once, and goes on where it may not: the configuration of a
#: server has passwords in it.
CONFIGURATION = "config|get"


def sha256(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def users() -> dict[str, list[str]]:
    """The rules of each user, with passwords filled in."""
    filled = re.sub(r"\{APEX_REDIS_(\w+)_SHA256\}", lambda found: sha256(f"secret-{found[1].lower()}"), ACL)
    return {name: rules for _, name, *rules in map(str.split, filled.splitlines())}


@pytest.fixture
def guarded(redis: Redis, redis_url: str) -> Iterator[str]:
    """A URL without its user; afterwards, Redis must have refused nobody."""
    for name, rules in users().items():
        if name != "default":
            redis.execute_command("ACL", "SETUSER", name, "reset", *rules)  # type: ignore[no-untyped-call]
    redis.acl_log_reset()
    yield redis_url.removeprefix("unix://")
    refused = {(entry["username"], entry["reason"], entry["object"]) for entry in redis.acl_log()}
    redis.acl_deluser(*(name for name in users() if name != "default"))
    assert {entry for entry in refused if entry[2] not in (INTRODUCTION, CONFIGURATION)} == set()


def url_of(name: str, guarded: str) -> str:
    return f"unix://{name}:secret-{name}@{guarded}"


async def flow(client: httpx.AsyncClient) -> None:
    """What clients do, through every operation that the document lists."""
    for key in ("a", "a", "b", "c"):
        answer = await client.post("/score", content=WAV + key.encode(), headers={**RAW, "Idempotency-Key": key})
        assert answer.status_code == 202, answer.text
    job_id = answer.json()["id"]
    batch = (await client.post("/batches", json={})).json()
    await client.post(f"/score?batch_id={batch.get('id')}", content=WAV, headers=RAW)
    await client.post("/compare", json={"a": job_id, "b": job_id})
    for method, path in await operations(client):
        path = path.replace("/batches/{id}", f"/batches/{batch.get('id')}").replace("{id}", job_id)
        if method != "POST" and not path.endswith("/events"):
            answer = await client.request(method, path.replace("{slug}", "not-found"))
            assert answer.status_code < 500, f"{method} {path}: {answer.text}"
    await client.post(f"/jobs/{job_id}/cancel")
    async with client.stream("GET", f"/jobs/{job_id}/events") as events:
        assert events.status_code < 500


async def operations(client: httpx.AsyncClient) -> list[tuple[str, str]]:
    paths: dict[str, dict[str, Any]] = (await client.get("/openapi.json")).json()["paths"]
    found = [(method.upper(), path) for path, item in paths.items() for method in item if method != "parameters"]
    return sorted(found, key=lambda operation: operation[0] == "DELETE")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_the_front_end_can_do_all_that_it_does(guarded: str, data_dir: Path, redis: Redis) -> None:
    redis.sadd("rq:workers:scores", "rq:worker:one")
    app = create_app(ApiSettings(data_dir=data_dir, redis_url=url_of("api", guarded)))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        await flow(client)
        headers = {**RAW, **key_of(redis, "acme", livemode=False), "Prefer": "wait=30"}
        assert (await client.post("/score/raw", content=WAV, headers=headers)).json()["status"] == "succeeded"


def test_a_worker_can_do_all_that_it_does(guarded: str, data_dir: Path, redis: Redis) -> None:
    front_end = state_machine(redis)
    lost, spent, good, good_too = (accepted(front_end, data_dir, tenant="a", estimated_s=60.0) for _ in range(4))
    told = {"webhook_url": "https://hooks.example.com/", "webhook_events": ["job.succeeded"]}
    of_another = accepted(front_end, data_dir, tenant="b", **told)
    with connect(url_of("worker", guarded), max_retries=1) as redis:
        machine = state_machine(redis)
        queue = machine.queue
        storage = FolderStorage(data_dir / "audio")
        reconciler = Reconciler(machine=machine, storage=storage, max_attempts=3, ended={"dead": False})
        machine.start(lost.id, max_attempts=3, lease_s=60, worker="dead")
        machine.start(spent.id, max_attempts=1, lease_s=-1)
        for job in (lost, of_another):
            redis.lrem(queue.rq.key, 0, job.id)
        redis.delete(RqJob.key_for(of_another.id))
        redis.rpush(queue.rq.intermediate_queue_key, new_job_id())
        reconciler.run()
        reconciler.run()
        assert queue.next_id()
        worker(score_track(machine, data_dir)).work(burst=True, logging_level="WARNING")
        assert Worker.all(queue=queue.rq) == []  # what the health check asks
        WorkerInfo(machine.redis, KEYS).publish_model({})
        WorkerInfo(machine.redis, KEYS).publish_missing_sandbox_layers([])
        assert [outcome(machine, job).status for job in (lost, spent, good, good_too, of_another)] == [
            JobState.SUCCEEDED
        ] * 5
        front_end.create(Job(id=new_job_id(), storage_key="x", deadline=1.0))
        reconciler.run()


def test_a_dispatcher_can_do_all_that_it_does_as_a_front_end(guarded: str) -> None:
    with connect(url_of("api", guarded), max_retries=1) as redis:
        outbox, secrets = Outbox(redis, KEYS, result_ttl_s=60), WebhookSecrets(redis, KEYS)
        secrets.create("open")
        secrets.rotate("open")
        assert len(secrets.valid("open")) == 2
        for number in range(6):
            outbox.post(id=f"evt_{number}", type="webhook.test", tenant="open", url="https://hooks.example.com/")
        for event in outbox.claim("me", limit=6).events:
            outbox.settle(event, Attempt(1.0, 1, 500), DeliveryStatus.PENDING, is_down=True, delay_s=0.0)
        assert outbox.claim("me", limit=6, lease_s=0.0).events == []
        assert outbox.redeliver("evt_0")
        assert outbox.get("evt_0", tenant="open")
        assert outbox.n_dispatchers() == 1


FORBIDDEN = {
    "api": ["CONFIG GET dir", "FLUSHALL", "KEYS *", "MODULE LIST", "REPLICAOF NO ONE", "ACL LIST", "SAVE",
            "GET other", "SET rq:worker:x 1", "PUBLISH rq:pubsub:x 1", "SHUTDOWN", "CLIENT LIST", "SCRIPT FLUSH"],
    "worker": ["CONFIG GET dir", "FLUSHALL", "KEYS *", "MODULE LIST", "REPLICAOF NO ONE", "ACL LIST", "SAVE",
               "GET other", "PUBLISH rq:pubsub:x 1", "SHUTDOWN", "SUBSCRIBE x", "SCRIPT FLUSH"],
    "health": ["GET apex:model", "INFO", "SET x 1"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, lines in FORBIDDEN.items() for line in lines])
def test_whoever_has_a_password_can_do_no_more(guarded: str, redis: Redis, name: str, line: str) -> None:
    with Redis.from_url(f"unix://{name}:secret-{name}@{guarded}") as client, pytest.raises(NoPermissionError):
        client.execute_command(*line.split())
    redis.acl_log_reset()


def test_a_wrong_password_opens_nothing(guarded: str, redis: Redis) -> None:
    with Redis.from_url(f"unix://api:wrong@{guarded}") as client, pytest.raises(AuthenticationError):
        client.ping()
    redis.acl_log_reset()


def test_nobody_is_let_in_without_a_name() -> None:
    assert users()["default"] == ["off"]


def test_no_password_is_in_the_file() -> None:
    assert re.findall(r"[>#](\S+)", ACL) == ["{APEX_REDIS_API_SHA256}", "{APEX_REDIS_WORKER_SHA256}"]


def test_the_start_script_fills_in_the_passwords(tmp_path: Path, redis: Redis) -> None:
    """The script as it is, but for its paths and for the server, which prints its own options here."""
    script = START.replace("/tmp/", f"{tmp_path}/").replace("/etc/apex/redis.acl", str(DEPLOY / "redis.acl"))
    (tmp_path / "start.sh").write_text(script.replace("exec redis-server", "exec echo"))
    passwords = {f"APEX_REDIS_{name}_PASSWORD": f"secret-{name.lower()}" for name in ("API", "WORKER")}
    subprocess.run(["sh", tmp_path / "start.sh"], env=os.environ | passwords, check=True, capture_output=True)
    written = [line.split() for line in (tmp_path / "redis.acl").read_text().splitlines()]
    assert {name: rules for _, name, *rules in written} == users()


def test_replicas_and_sentinels_fail_over_with_the_users_of_the_documentation(tmp_path: Path) -> None:
    documented = re.findall(r"^user (?:replica|sentinel) .*$", (DEPLOY.parent / "docs/operations.md").read_text(), re.M)
    assert len(documented) == 2
    access = tmp_path / "redis.acl"
    access.write_text(
        "\n".join(["user default off", *documented]).replace("SHA256", hashlib.sha256(b"SEKRET").hexdigest())
    )
    lines = (f"aclfile {access}", "masteruser replica", "masterauth SEKRET", "repl-diskless-sync-delay 0", 'save ""')
    with (
        server(tmp_path / "master", *lines) as master,
        server(tmp_path / "replica", *lines, f"replicaof 127.0.0.1 {master.port}") as replica,
        server(
            tmp_path / "sentinel",
            f"sentinel monitor {MASTER_NAME} 127.0.0.1 {master.port} 1",
            f"sentinel auth-user {MASTER_NAME} sentinel",
            f"sentinel auth-pass {MASTER_NAME} SEKRET",
            f"sentinel down-after-milliseconds {MASTER_NAME} 500",
            f"sentinel failover-timeout {MASTER_NAME} 3000",
            mode=["--sentinel"],
        ) as started,
        started.client() as client,
    ):
        until(lambda: any(known["master-link-status"] == "ok" for known in client.sentinel_slaves(MASTER_NAME)))
        master.process.kill()
        until(lambda: client.sentinel_masters()[MASTER_NAME]["port"] == replica.port)


def test_a_fetcher_can_do_all_that_it_does_as_the_front_end(guarded: str, data_dir: Path, redis: Redis) -> None:
    front_end = state_machine(redis)
    for name in ("job_a", "job_b", "job_c"):
        front_end.create(Job(id=name, storage_key=name, tenant="a", source={"url": "https://cdn.example/"}))
    with connect(url_of("api", guarded), max_retries=1) as client:
        machine, room = state_machine(client), BacklogLimits(1000.0, 0.5)
        Deployment(client, KEYS, FolderStorage(data_dir / "audio")).check()
        client.set(KEYS.fetcher, "", ex=60)

        def begin() -> Job:
            taken = machine.next_fetch(max_fetches=8, lease_s=60, backlog=room)
            assert taken
            job = machine.begin_fetch(taken.id, tenant=taken.tenant, max_fetches_of_job=3)
            assert job
            return job

        first, second, third = begin(), begin(), begin()
        assert machine.renew_fetch(first, lease_s=60)
        assert machine.end_fetch(first, storage_key="job_a-1", estimated_s=1.0)
        assert machine.succeed_fetch(second, result={})
        assert machine.fetch_later(third, pause_s=0)
        assert machine.fail_fetch(begin(), error={"code": "url_status"})


def test_a_worker_finds_a_job_whose_place_among_the_fetches_was_lost(
    guarded: str, data_dir: Path, redis: Redis
) -> None:
    state_machine(redis).create(Job(id="job_a", storage_key="job_a", source={"url": "https://cdn.example/"}))
    redis.delete(*redis.keys(f"{KEYS.fetch_prefix}*"))
    with connect(url_of("worker", guarded), max_retries=1) as client:
        storage = FolderStorage(data_dir / "audio")
        reconciler = Reconciler(machine=state_machine(client), storage=storage, max_attempts=3)
        for _ in range(3):
            reconciler.run()
    assert redis.zscore(KEYS.unfetched, "job_a")
