"""`APEX_REDIS_MIN_REPLICAS`: what is answered with 202 is on a replica; what is refused is not scored twice."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from redis import Redis

from app.core.lua.script import LuaScript
from app.core.redis import replicas
from app.core.redis.client import connect
from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import RAW, WAV
from tests.app.conftest import client_of
from tests.app.records import MODEL, RESULT
from tests.conftest import KEYS, audio_files, state_machine
from tests.redis_servers import Server, pair, until, until_followed

pytestmark = pytest.mark.anyio

KEY = {"Idempotency-Key": "one"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    with pair(tmp_path_factory.mktemp("redis")) as started:
        yield started


@pytest.fixture
def master(servers: tuple[Server, Server]) -> Iterator[Redis]:
    with servers[0].client() as client:
        client.flushall()
        client.config_resetstat()
        yield client


@pytest.fixture
def replica(servers: tuple[Server, Server]) -> Iterator[Redis]:
    with servers[1].client() as client:
        yield client


@pytest.fixture
async def client(servers: tuple[Server, Server], master: Redis, data_dir: Path) -> AsyncIterator[httpx.AsyncClient]:
    settings = ApiSettings(data_dir=data_dir, redis_url=servers[0].url, redis_min_replicas=1)
    with connect(settings.redis_url, max_retries=0, timeout_s=1.5) as redis:
        async with client_of(create_app(settings, redis=redis)) as client:
            yield client


@contextmanager
def lagging(servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A replica that is connected and confirms nothing in time during the block; after it, it does."""
    with monkeypatch.context() as patch, servers[1].stopped():
        patch.setattr(replicas, "TIMEOUT_S", 0.2)
        yield
    until_followed(servers[0])


def jobs_of(redis: Redis) -> list[bytes | str]:
    return redis.keys("apex:job:*")


async def test_what_was_accepted_is_on_the_replica(client: httpx.AsyncClient, replica: Redis) -> None:
    for number in range(20):
        answer = await client.post("/score", content=WAV + bytes([number]), headers=RAW)
        assert answer.status_code == 202
        assert f"apex:job:{answer.json()['id']}".encode() in jobs_of(replica)
    batch = await client.post("/batches", files={"files": ("a", WAV)})
    assert f"apex:job:{batch.json()['items'][0]['job']['id']}".encode() in jobs_of(replica)


async def test_a_batch_counts_as_canceled_once_the_replica_has_it(
    client: httpx.AsyncClient, servers: tuple[Server, Server], replica: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [("files", ("a", WAV)), ("files", ("b", WAV + b"b"))]
    batch = (await client.post("/batches", files=files)).json()
    with lagging(servers, monkeypatch):
        answer = await client.post(f"/batches/{batch['id']}/cancel")
        assert (answer.status_code, answer.json()["code"]) == (503, "not_replicated")
    again = await client.post(f"/batches/{batch['id']}/cancel")
    assert (again.status_code, again.json()["counts"]["canceled"]) == (200, 2)
    statuses = {replica.hget(f"apex:job:{item['job']['id']}", "status") for item in batch["items"]}
    assert statuses == {b'"canceled"'}


async def test_a_refused_track_without_a_key_is_no_job(
    client: httpx.AsyncClient,
    servers: tuple[Server, Server],
    master: Redis,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with lagging(servers, monkeypatch):
        answer = await client.post("/score", content=WAV, headers=RAW)
        batch = await client.post("/batches", files=[("files", ("a", WAV)), ("files", ("b", WAV + b"b"))])
    for refused in (answer, batch):
        assert (refused.status_code, refused.json()["code"]) == (503, "not_replicated")
        assert refused.headers["retry-after"]
    assert jobs_of(master) == []
    assert master.llen("rq:queue:scores") == 0
    assert list(audio_files(data_dir / "audio")) == []


@pytest.mark.parametrize("path", ["/score", "/batches"])
async def test_a_refused_track_with_a_key_is_one_job_when_it_is_sent_again(
    client: httpx.AsyncClient,
    servers: tuple[Server, Server],
    master: Redis,
    replica: Redis,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    name = "file" if path == "/score" else "files"
    with lagging(servers, monkeypatch):
        for _ in range(2):
            answer = await client.post(path, files={name: ("a", WAV)}, headers=KEY)
            assert answer.json()["code"] == "not_replicated"
    again = [await client.post(path, files={name: ("a", WAV)}, headers=KEY) for _ in range(2)]
    assert {answer.status_code for answer in again} == {202 if path == "/score" else 207}
    assert len({answer.content for answer in again}) == 1
    assert len(jobs_of(master)) == 1
    assert jobs_of(replica) == jobs_of(master)


async def test_what_a_client_is_told_of_a_cancel_or_a_deletion_lasts(
    client: httpx.AsyncClient, servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = (await client.post("/score", content=WAV, headers=RAW)).json()
    with lagging(servers, monkeypatch):
        for _ in range(2):
            answer = await client.post(job["links"]["cancel"])
            assert answer.json()["code"] == "not_replicated", "a repetition is not confirmed either"
        assert (await client.delete(job["links"]["self"])).json()["code"] == "not_replicated"


async def test_an_end_is_told_once_a_replica_has_it(
    client: httpx.AsyncClient, servers: tuple[Server, Server], master: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a failover could undo it, and the job would end again, at another time."""
    job = (await client.post("/score", content=WAV, headers=RAW)).json()
    paths = [job["links"]["self"], "/jobs"]
    with lagging(servers, monkeypatch):
        jobs = state_machine(master)
        run = jobs.start(job["id"], max_attempts=3, lease_s=60)
        assert run
        assert jobs.succeed(run, result=RESULT, model=MODEL)
        early = [await client.get(path) for path in paths]
    assert [answer.json()["code"] for answer in early] == ["not_replicated"] * 2
    told = [await client.get(path) for path in paths]
    with lagging(servers, monkeypatch):
        again = [await client.get(path) for path in paths]
    assert told[0].json()["status"] == "succeeded"
    assert [answer.content for answer in again] == [answer.content for answer in told], "what was confirmed stays so"


async def test_another_end_than_the_confirmed_one_is_not_noted_as_confirmed(
    servers: tuple[Server, Server], client: httpx.AsyncClient, master: Redis
) -> None:
    job_id = (await client.post("/score", content=WAV, headers=RAW)).json()["id"]
    record, confirm = KEYS.record(job_id), LuaScript(master, "api/jobs/lua/confirm.lua")
    confirm([record], finished_at=1.5)
    assert master.hget(record, "end_confirmed") == b"false"
    confirm([KEYS.record("job_gone")], finished_at=1.5)
    assert not master.exists(KEYS.record("job_gone"))


async def test_while_replicas_are_away_nothing_is_taken_and_the_service_is_not_ready(
    servers: tuple[Server, Server], client: httpx.AsyncClient, master: Redis, replica: Redis
) -> None:
    replica.replicaof("NO", "ONE")
    try:
        until(lambda: master.info("replication")["connected_slaves"] == 0)
        answer = await client.post("/score", content=WAV, headers=RAW)
        ready = await client.get("/readyz")
    finally:
        replica.replicaof("127.0.0.1", str(servers[0].port))
        until_followed(servers[0])
    assert (answer.status_code, answer.json()["code"]) == (503, "not_replicated")
    assert "nothing was done" in answer.json()["detail"]
    assert ready.json()["checks"]["replicas"]["status"] == "failed"
    assert jobs_of(master) == []


async def test_without_the_setting_nothing_waits(servers: tuple[Server, Server], master: Redis, data_dir: Path) -> None:
    settings = ApiSettings(data_dir=data_dir, redis_url=servers[0].url)
    async with client_of(create_app(settings)) as client:
        await client.post("/score", content=WAV, headers=RAW)
    assert "cmdstat_wait" not in {name.partition("|")[0] for name in master.info("commandstats")}
