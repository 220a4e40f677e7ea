"""`/livez` and `/readyz`: what is checked, and what is shown."""

from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import pytest
from redis import Redis

from app.api.dependencies import Services
from app.core.settings import ApiSettings
from app.core.storage.folder import FolderStorage
from app.main import create_app
from tests.app.conftest import client_of
from tests.conftest import audio_files
from tests.redis_servers import cluster, server

pytestmark = pytest.mark.anyio

CHECKS = {
    *("redis", "redis_version", "storage", "deployment", "memory", "durability", "replicas", "eviction"),
    *("decoder_sandbox", "webhooks", "audio_urls"),
}
SETTINGS = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")


@pytest.fixture
def config(redis: Redis) -> Iterator[Redis]:
    """Redis whose configuration a test may change."""
    before = {name: redis.config_get(name)[name] or "" for name in SETTINGS}
    yield redis
    for name, value in before.items():
        redis.config_set(name, value)


async def test_a_service_in_order_is_ready(client: httpx.AsyncClient, services: Services) -> None:
    answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "checks": {name: {"status": "ok"} for name in CHECKS}}
    assert audio_files(services.settings.audio_dir) == []


async def test_readiness_answers_by_its_other_name_too(client: httpx.AsyncClient) -> None:
    for query in ("", "?verbose"):
        first, other = [(await client.get(f"{path}{query}")).json() for path in ("/readyz", "/healthz")]
        assert first.keys() == other.keys()
        assert other["checks"].keys() == CHECKS


async def test_verbose_explains_what_is_in_order(client: httpx.AsyncClient) -> None:
    checks = (await client.get("/readyz?verbose")).json()["checks"]
    assert all(check["detail"] for check in checks.values())


async def test_without_redis_the_process_lives_and_is_not_ready(settings: ApiSettings, tmp_path: Path) -> None:
    app = create_app(settings.model_copy(update={"redis_url": f"unix://{tmp_path}/none.sock"}))
    async with client_of(app) as client:
        assert (await client.get("/livez")).json() == {"status": "alive"}
        answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert answer.json()["checks"]["redis"]["status"] == "failed"
    assert answer.json()["checks"]["storage"] == {"status": "ok"}


async def test_storage_without_room_is_not_ready(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FolderStorage, "free_bytes", lambda _storage: 1000)
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["storage"]["status"] == "failed"


async def test_storage_that_is_gone_is_not_ready(client: httpx.AsyncClient, services: Services) -> None:
    services.settings.audio_dir.rmdir()
    answer = await client.get("/readyz")
    assert answer.json()["checks"]["storage"]["status"] == "failed"


async def test_the_storage_of_another_deployment_is_not_ready(client: httpx.AsyncClient, services: Services) -> None:
    services.storage.create_marker("dep_other")
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["deployment"]["status"] == "failed"
    assert "Redis does not know" in answer.json()["checks"]["deployment"]["detail"]
    assert str(services.storage) not in answer.text


async def test_a_redis_that_forgets_is_named_and_still_ready(client: httpx.AsyncClient, config: Redis) -> None:
    config.config_set("appendonly", "no")
    answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["checks"]["durability"]["status"] == "warning"
    assert "append-only" in answer.json()["checks"]["durability"]["detail"]


@pytest.mark.parametrize("often", ["everysec", "no"])
async def test_writes_that_are_not_synced_are_named(client: httpx.AsyncClient, config: Redis, often: str) -> None:
    config.config_set("appendfsync", often)
    answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["checks"]["durability"]["status"] == "warning"
    assert answer.json()["checks"]["durability"]["detail"].startswith(f"appendfsync is {often}:")


async def test_a_redis_that_is_nearly_full_is_named(client: httpx.AsyncClient, config: Redis) -> None:
    config.config_set("maxmemory", int(config.info("memory")["used_memory"] / 0.95))
    memory = (await client.get("/readyz")).json()["checks"]["memory"]
    assert memory["status"] == "warning"
    assert "maxmemory" in memory["detail"]


async def test_a_replica_that_takes_writes_is_not_ready(client: httpx.AsyncClient, config: Redis) -> None:
    config.config_set("replica-read-only", "no")
    config.replicaof("127.0.0.1", "1")
    try:
        answer = await client.get("/readyz")
    finally:
        config.replicaof("NO", "ONE")
        config.config_set("replica-read-only", "yes")
    assert answer.status_code == 503
    assert answer.json()["checks"]["redis"]["detail"] == "Redis is a replica, which loses what is written to it."


async def test_a_cluster_and_a_sentinel_are_not_ready(settings: ApiSettings, tmp_path: Path) -> None:
    lines = ["sentinel monitor m 127.0.0.1 1 1"]
    with (
        cluster(tmp_path / "cluster") as cluster_server,
        server(tmp_path / "sentinel", *lines, mode=["--sentinel"]) as sentinel,
    ):
        assert "Redis Cluster" in await said_of_version(settings, cluster_server.url)
        assert "redis+sentinel://" in await said_of_version(settings, sentinel.url)


async def said_of_version(settings: ApiSettings, url: str) -> str:
    async with client_of(create_app(settings.model_copy(update={"redis_url": url}))) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    return str(answer.json()["checks"]["redis_version"]["detail"])


async def test_why_redis_cannot_be_reached_is_said(settings: ApiSettings, tmp_path: Path) -> None:
    with server(tmp_path, "requirepass SEKRET") as guarded:
        app = create_app(settings.model_copy(update={"redis_url": guarded.url.replace("//", "//:SEKRETx@")}))
        async with client_of(app) as client:
            answer = await client.get("/readyz")
    failed = {name: check for name, check in answer.json()["checks"].items() if name != "storage"}
    assert {check["detail"] for check in failed.values()} == {"Redis refuses the user or the password of its URL."}
    assert "SEKRET" not in answer.text


async def test_sandbox_layers_that_the_decoder_lacks_are_named(client: httpx.AsyncClient, services: Services) -> None:
    services.worker_info.publish_missing_sandbox_layers(["network", "landlock"])
    answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["checks"]["decoder_sandbox"] == {
        "status": "warning",
        "detail": "Sandbox layers that the decoder lacks: network, landlock.",
    }


async def test_a_redis_whose_memory_is_full_is_not_ready(client: httpx.AsyncClient, config: Redis) -> None:
    config.config_set("maxmemory", 1)
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["redis"] == {
        "status": "failed",
        "detail": "Redis takes no writes: its memory is full.",
    }
    config.config_set("maxmemory", 0)
    assert (await client.get("/readyz")).status_code == 200


async def test_a_redis_that_only_answers_reads_is_not_ready(client: httpx.AsyncClient, config: Redis) -> None:
    config.replicaof("127.0.0.1", "1")
    try:
        answer = await client.get("/readyz")
    finally:
        config.replicaof("NO", "ONE")
    assert answer.status_code == 503
    assert "read-only replica" in answer.json()["checks"]["redis"]["detail"]


async def test_a_redis_that_cannot_write_its_snapshot_is_not_ready(client: httpx.AsyncClient, config: Redis) -> None:
    snapshot = Path(str(config.config_get("dir")["dir"])) / "dump.rdb"
    snapshot.mkdir()
    config.config_set("save", "1 1")
    try:
        config.set("a", "b")
        await until_snapshot_fails(config)
        answer = await client.get("/readyz")
    finally:
        config.config_set("save", "")
        snapshot.rmdir()
        config.save()
        snapshot.unlink()
    assert answer.status_code == 503
    assert answer.json()["checks"]["redis"]["detail"] == "Redis takes no writes: it cannot write to its disk."


async def until_snapshot_fails(redis: Redis) -> None:
    while redis.info("persistence")["rdb_last_bgsave_status"] == "ok":
        await anyio.sleep(0.05)


@pytest.mark.parametrize(("limit", "status"), [(0, 200), (10**9, 503)])
async def test_a_redis_that_drops_records_is_not_ready_once_it_can_be_full(
    client: httpx.AsyncClient, config: Redis, limit: int, status: int
) -> None:
    config.config_set("maxmemory", limit)
    config.config_set("maxmemory-policy", "allkeys-lru")
    answer = await client.get("/readyz")
    assert answer.status_code == status
    assert "allkeys-lru" in answer.json()["checks"]["eviction"]["detail"]
