"""Ids and other names that a client makes up, in every place of every route: refused or unknown, never an error."""

from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis

from app.core.jobs.unfinished import UnfinishedJobs
from app.core.settings import ApiSettings
from tests.app.api.asgi import RAW, WAV
from tests.app.api.batches.requests import send, wav
from tests.conftest import KEYS

pytestmark = pytest.mark.anyio

Parameter = tuple[str, str, str, str]

MADE_UP = [
    "{batch}:items", "{batch}:open", "{job}:x", ":", "*", "..", "%2e%2e", "a\nb", "\0", "ü", "\ud7ff\U0001f600", "-",
    "0", "null", "{{}}", "1e999", "9" * 400, "a" * 65, "a" * 5000,
]  # fmt: skip


@pytest.fixture
def settings(settings: ApiSettings) -> ApiSettings:
    return settings.model_copy(update={"max_wait_s": 0})  # one of the values is a long time to wait for a job


def places(app: FastAPI) -> Iterator[Parameter]:
    """Every parameter in a path or a query, as method, path, name and where it is."""
    document = app.openapi()
    for path, item in document["paths"].items():
        for method in item.keys() - {"parameters"}:
            for parameter in [*item.get("parameters", ()), *item[method].get("parameters", ())]:
                if "$ref" in parameter:
                    parameter = document["components"]["parameters"][parameter["$ref"].rpartition("/")[2]]
                yield method, path, parameter["name"], parameter["in"]


async def ask(client: httpx.AsyncClient, place: Parameter, value: str, job_id: str) -> httpx.Response:
    method, path, name, where = place
    in_path = where == "path"
    url = path.replace(f"{{{name}}}", quote(value, safe="")).replace("{id}", job_id)
    query = {} if in_path else {name: value}
    upload = WAV if path == "/score/raw" else None
    return await client.request(method.upper(), url, params=query, content=upload, headers=RAW if upload else None)


async def test_no_name_in_any_place_is_an_error(app: FastAPI, client: httpx.AsyncClient) -> None:
    sent = await send(client, wav(1), wav(2))
    batch_id, job_id = sent["id"], sent["items"][0]["job"]["id"]
    asked = [place for place in places(app) if place[3] in ("path", "query")]
    assert len(asked) > 15
    for place in asked:
        for made_up in MADE_UP:
            answer = await ask(client, place, made_up.format(batch=batch_id, job=job_id), job_id)
            assert answer.status_code < 500, (place, made_up)


@pytest.mark.parametrize("part", ["items", "open"])
async def test_what_belongs_to_a_batch_is_no_batch(client: httpx.AsyncClient, redis: Redis, part: str) -> None:
    batch_id = f"{(await send(client, wav(1), wav(2)))['id']}:{part}"
    before = UnfinishedJobs(redis, KEYS).ids()
    unknown = await client.get("/batches/bat_unknown")
    answer = await client.get(f"/batches/{batch_id}")
    assert (answer.status_code, answer.json()["detail"]) == (404, unknown.json()["detail"])
    for joined in (
        await client.post("/score", params={"batch_id": batch_id}, content=wav(3), headers=RAW),
        await client.post("/score", data={"batch_id": batch_id}, files={"file": wav(3)}),
    ):
        assert (joined.status_code, joined.json()["errors"][0]["pointer"]) == (422, "#/batch_id")
    assert UnfinishedJobs(redis, KEYS).ids() == before


async def test_an_id_of_no_form_is_as_unknown_as_another(client: httpx.AsyncClient) -> None:
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("DELETE", "")):
        answer = await client.request(method, f"/jobs/job_1:x{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    body = {"job_ids": ["job_1:x", "job_2"], "criterion": {"clarity": 1}}
    assert (await client.post("/compare", json=body)).status_code == 422
