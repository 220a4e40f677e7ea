"""`GET /results` and `GET /batches/{id}/results`: everything in one answer, a part at a time in memory."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from redis import Redis

from app.api.auth.api_keys import KeyStore
from app.api.auth.authentication import reauthenticate
from app.api.dependencies import Services
from app.api.results import stream
from app.api.results.lines import ITEM_COLUMNS, JOB_COLUMNS
from app.core.jobs.models import Job
from app.core.jobs.state_machine import JobStateMachine
from app.core.problems import problem_object
from app.core.settings import ApiSettings
from app.main import create_app
from model.domain import SCORE_RANGES
from tests.app.api.batches.requests import TEXT, finish, read, send, wav
from tests.app.api.live import live
from tests.app.records import key_of, queued, running, succeeded
from tests.conftest import KEYS, state_machine

pytestmark = pytest.mark.anyio

CSV, JSONL = {"Accept": "text/csv"}, {"Accept": "application/jsonl"}


def rows(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def objects(answer: httpx.Response) -> list[Any]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_lines_of_json_are_the_jobs_newest_first(client: httpx.AsyncClient, machine: JobStateMachine) -> None:
    for make in (succeeded, running, queued):
        make(machine, external_id="ü")
    answer = await client.get("/results", headers=JSONL)
    assert answer.headers["Content-Type"] == "application/jsonl; charset=utf-8"
    assert objects(answer) == (await client.get("/jobs")).json()["items"]
    assert (await client.get("/results")).text == answer.text, "it is what those get who accept anything"


async def test_a_table_has_a_column_for_each_score(client: httpx.AsyncClient, machine: JobStateMachine) -> None:
    done = succeeded(machine, external_id="a", metadata={"album": "x,y"}, audio={"sha256": "ab", "duration_s": 1.5})
    failed = running(machine)
    machine.fail(failed, error=problem_object("audio_silent", 'It is "silent".'))
    answer = await client.get("/results", headers=CSV)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    last, first = rows(answer)
    assert tuple(first) == JOB_COLUMNS
    assert (first["id"], first["status"], first["clarity"], first["musicality"]) == (done.id, "succeeded", "3.1416", "")
    assert (first["duration_s"], first["trained"], first["metadata"]) == ("1.5", "true", '{"album": "x,y"}')
    assert (last["error_code"], last["error_detail"]) == ("audio_silent", 'It is "silent".')
    assert set(SCORE_RANGES) <= set(JOB_COLUMNS)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1"])
async def test_nothing_that_a_client_sent_is_a_formula(
    client: httpx.AsyncClient, machine: JobStateMachine, name: str
) -> None:
    queued(machine, external_id=name, metadata={"=1": "=2"})
    [row] = rows(await client.get("/results", headers=CSV))
    assert row["external_id"] == "'" + name
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row.values())


async def test_filters_are_those_of_the_list(client: httpx.AsyncClient, machine: JobStateMachine) -> None:
    wanted = queued(machine, external_id="a")
    queued(machine, external_id="b")
    assert [job["id"] for job in objects(await client.get("/results?external_id=a&status=queued"))] == [wanted.id]
    assert rows(await client.get("/results?status=failed", headers=CSV)) == []
    for query in ("limit=1", "cursor=x", "status=x"):
        assert (await client.get(f"/results?{query}")).status_code == 422


async def test_a_batch_has_a_row_for_each_item_in_order(client: httpx.AsyncClient, services: Services) -> None:
    batch = await send(client, wav(1), TEXT, wav(2))
    path = f"/batches/{batch['id']}/results"
    finish(services.machine, batch["items"][0]["job"]["id"])
    await client.delete(f"/jobs/{batch['items'][2]['job']['id']}")
    found = rows(await client.get(path, headers=CSV))
    assert tuple(found[0]) == ITEM_COLUMNS
    assert [(row["index"], row["status"]) for row in found] == [("0", "succeeded"), ("1", "rejected"), ("2", "expired")]
    assert found[1]["error_code"] == "unsupported_media_type"
    assert objects(await client.get(path)) == (await read(client, batch))["items"]


async def test_what_is_asked_for_must_be_there(client: httpx.AsyncClient) -> None:
    answer = await client.get("/results", headers={"Accept": "application/xml"})
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")
    assert (await client.get("/batches/bat_x/results")).status_code == 404


async def test_nobody_reads_the_results_of_others(
    client: httpx.AsyncClient, machine: JobStateMachine, redis: Redis
) -> None:
    queued(machine, tenant="acme")
    keys = [key_of(redis, *who) for who in (("acme",), ("other",), ("acme", "score:write"))]
    answers = [await client.get("/results", headers=key) for key in keys]
    assert [answer.status_code for answer in answers] == [200, 200, 403]
    assert [len(objects(answer)) for answer in answers[:2]] == [1, 0]


async def test_everything_comes_however_much_and_a_part_at_a_time(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PART", 3)
    ids = {queued(services.machine).id for _ in range(10)}
    read, get_many = list[int](), services.jobs.get_many

    def counted(_: object, job_ids: list[str]) -> list[Job | None]:
        read.append(len(job_ids))
        return get_many(job_ids)

    monkeypatch.setattr(type(services.jobs), "get_many", counted)
    assert {job["id"] for job in objects(await client.get("/results"))} == ids
    assert read == [3, 3, 3, 1]


def test_an_answer_that_breaks_off_does_not_look_complete(
    settings: ApiSettings, redis: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As when its key is revoked meanwhile."""
    monkeypatch.setattr(stream, "PART", 3)
    for _ in range(10):
        queued(state_machine(redis), tenant="acme")
    keys = KeyStore(redis, KEYS)
    key, presented = keys.create(tenant="acme")
    revoke: Callable[[], object] = lambda: keys.revoke(key.id)  # noqa: E731
    once = iter([lambda: None, revoke])
    monkeypatch.setattr(stream, "reauthenticate", hooked(reauthenticate, once))
    with live(create_app(settings)) as serving, serving.client() as client:
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete|without sending complete"):
            client.get("/results", headers={"Authorization": f"Bearer {presented}"})
        assert client.get("/livez").status_code == 200


def hooked(function: Callable[..., Any], before: Any) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        next(before, lambda: None)()
        return function(*arguments)

    return call


async def test_of_no_jobs_there_is_only_the_head(client: httpx.AsyncClient) -> None:
    assert (await client.get("/results", headers=CSV)).text == ",".join(JOB_COLUMNS) + "\r\n"
    assert (await client.get("/results", headers=JSONL)).text == ""
