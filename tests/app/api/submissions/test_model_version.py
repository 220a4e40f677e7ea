"""`model_version` is held while the job waits, and is refused where no worker runs it."""

from typing import Any

import httpx
import pytest
from redis import Redis

from app.api.dependencies import Services
from app.core.jobs.queue import HEARTBEAT_AT, MISSING_LAYERS, MODEL_VERSION
from tests.app.api.asgi import RAW, WAV

pytestmark = pytest.mark.anyio


@pytest.fixture
def upgrade(redis: Redis, services: Services) -> None:
    """Two workers of the old model and one of the new one, which started last."""
    services.worker_info.publish_model({"name": "apex", "version": "new"})
    for number, (version, layers) in enumerate([("old", "[]"), ("old", '["landlock"]'), ("new", "[]")]):
        redis.sadd("rq:workers:scores", f"rq:worker:{number}")
        fields: dict[Any, Any] = {
            HEARTBEAT_AT: str(redis.time()[0]),
            MODEL_VERSION: version,
            MISSING_LAYERS: layers,
            "state": "idle",
        }
        redis.hset(f"rq:worker:{number}", mapping=fields)


@pytest.mark.usefixtures("upgrade")
async def test_either_model_can_be_asked_for_during_an_upgrade(client: httpx.AsyncClient, services: Services) -> None:
    for version in ("old", "new"):
        answer = await client.post(f"/score?model_version={version}", content=WAV, headers=RAW)
        job = services.jobs.get(answer.json()["id"])
        assert job
        assert job.model_version == version
    refused = await client.post("/score?model_version=older", content=WAV, headers=RAW)
    assert refused.json()["errors"] == [{"pointer": "#/model_version", "detail": "The workers run new, old."}]


@pytest.mark.usefixtures("upgrade")
async def test_capacity_lists_the_models_that_run(client: httpx.AsyncClient) -> None:
    assert (await client.get("/capacity")).json()["models"] == [
        {"version": "new", "workers_alive": 1, "workers_paused": 0},
        {"version": "old", "workers_alive": 2, "workers_paused": 0},
    ]


@pytest.mark.usefixtures("upgrade")
async def test_sandbox_warnings_are_of_each_worker_and_not_of_the_last_to_start(client: httpx.AsyncClient) -> None:
    check = (await client.get("/readyz")).json()["checks"]["decoder_sandbox"]
    assert check == {
        "status": "warning",
        "detail": "Sandbox layers that the decoder of 1 of 3 workers lacks: landlock.",
    }


@pytest.mark.usefixtures("upgrade")
async def test_a_client_sees_that_its_job_waits_for_a_model(client: httpx.AsyncClient, services: Services) -> None:
    job = (await client.post("/score?model_version=old", content=WAV, headers=RAW)).json()
    services.machine.start(job["id"], max_attempts=3, lease_s=12, model_version="new")
    waits = (await client.get(job["links"]["self"])).json()
    assert (waits["status"], waits["status_reason"], waits["queue"]) == ("queued", "waiting_for_model", None)
