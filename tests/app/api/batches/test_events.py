"""`GET /batches/{id}/events`: counts while they change, and the end once."""

import threading
from collections.abc import Iterator

import httpx
import pytest
from redis import Redis

from app.api.dependencies import Services
from app.api.jobs import events
from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import WAV
from tests.app.api.batches.requests import files_of, finish, wav
from tests.app.api.live import Live, eventually, live
from tests.app.api.sse import ReceivedEvent, parse


@pytest.fixture
def serving(settings: ApiSettings, redis: Redis) -> Iterator[Live]:
    with live(create_app(settings)) as serving:
        yield serving


def sent(client: httpx.Client, *contents: bytes) -> tuple[str, list[str]]:
    batch = client.post("/batches", files=files_of(*contents)).json()
    return batch["id"], [item["job"]["id"] for item in batch["items"] if "job" in item]


def heard(client: httpx.Client, batch_id: str, **headers: str) -> Iterator[ReceivedEvent]:
    with client.stream("GET", f"/batches/{batch_id}/events", headers=headers) as stream:
        assert stream.status_code == 200
        yield from (event for event in parse(stream.iter_lines()) if event.name)


def test_a_batch_is_followed_to_its_end(serving: Live) -> None:
    with serving.client() as client, serving.client() as other:
        batch_id, ids = sent(client, wav(1), wav(2))
        stream = heard(client, batch_id)
        first = next(stream)
        assert (first.name, first.data["counts"]["queued"], first.data["items"]) == ("batch.snapshot", 2, [])
        finish(serving.services.machine, ids[0])
        while (event := next(stream)).data["counts"]["succeeded"] < 1:
            assert event.name == "batch.progress"
        other.post(f"/jobs/{ids[1]}/cancel")
        *_, before, last = stream
        assert [before.name, last.name] == ["batch.progress", "batch.completed"]
        assert (last.data["done"], last.data["counts"]["canceled"]) == (True, 1)
        assert last.id
        again = other.get(f"/batches/{batch_id}/events", headers={"Last-Event-ID": last.id})
        assert again.status_code == 204


def test_many_ends_at_once_are_not_told_one_by_one(serving: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PROGRESS_GAP_S", 0.5)
    with serving.client() as client:
        batch_id, _ = sent(client, *map(wav, range(20)))
        stream = heard(client, batch_id)
        next(stream)
        with serving.client() as other:
            other.post(f"/batches/{batch_id}/cancel")
        assert len(list(stream)) < 10


def test_a_batch_that_is_done_is_told_at_once(serving: Live) -> None:
    with serving.client() as client:
        batch_id, ids = sent(client, WAV)
        client.post(f"/jobs/{ids[0]}/cancel")
        assert [event.name for event in heard(client, batch_id)] == ["batch.snapshot", "batch.completed"]
        client.post(f"/score/raw?batch_id={batch_id}", content=wav(9), headers={"Content-Type": "audio/wav"})
        stream = heard(client, batch_id, **{"Last-Event-ID": "completed-1"})
        assert next(stream).data["counts"]["queued"] == 1, "a job that joined since makes it another end"


def test_the_stream_ends_when_the_batch_goes_away(serving: Live, redis: Redis) -> None:
    services: Services = serving.services
    with serving.client() as client:
        batch_id, ids = sent(client, WAV)
        names: list[str | None] = []
        reader = threading.Thread(target=lambda: names.extend(event.name for event in heard(client, batch_id)))
        reader.start()
        eventually(lambda: names)
        redis.delete(services.batches.keys.batch("open", batch_id))
        services.machine.purge(services.jobs.get_many([ids[0]])[0])  # type: ignore[arg-type]
        reader.join(60)
        assert names == ["batch.snapshot"]
