"""A running service is upgraded without loss: new code starts on the data directory of an old version that was killed.

`make_data_dir.py` made the directories, one for each released version.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from app.core.json_types import Json
from tests.conftest import audio_files
from tests.e2e.service import Service, running
from tests.upgrade.data_dir import queued_tasks, unpack

HERE = Path(__file__).parent
RELEASES = sorted(path.stem.removeprefix("manifest-") for path in HERE.glob("manifest-*.json"))
#: Fields of a finished job that a new version may show otherwise.
MAY_CHANGE = {"links"}
#: What a client said of a job or was told of it when it was made.
SAID = ("id", "external_id", "metadata", "batch_id", "created_at", "deadline", "request_id")
#: Where the service and RQ keep what is not over. Redis has no empty lists: a key that exists holds something.
UNFINISHED = (
    *("apex:jobs:open", "apex:jobs:held:test", "apex:jobs:waiting", "apex:jobs:deadlines", "apex:jobs:running"),
    "apex:queue:tenants",
    *("rq:queue:scores", "rq:queue:scores:intermediate", "rq:wip:scores"),
)
SETTLE_S = 15.0


@dataclass(frozen=True)
class Upgraded:
    """New code on an old directory. `manifest` is what the old version said, `track` what its client sends again.

    `tasks` names the function that the old version told RQ to call, by the job's id.
    """

    service: Service
    manifest: Json
    tasks: dict[str, str]
    track: bytes = field(repr=False)

    def id_of(self, name: str) -> str:
        return str(self.manifest["unfinished"][name]["id"])

    def was(self, *, done: bool) -> list[Json]:
        return [job for job in self.manifest["jobs"] if job["done"] is done]

    def wait_for_all(self) -> None:
        for job in self.was(done=False):
            self.service.finished(job["id"])


@pytest.fixture(scope="module", params=RELEASES)
def upgraded(
    request: pytest.FixtureRequest, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Upgraded]:
    manifest = json.loads((HERE / f"manifest-{request.param}.json").read_text())
    archive, folder = HERE / f"data-{request.param}.tar.gz", tmp_path_factory.mktemp("upgraded")
    data_dir = unpack(archive, folder, age_s=time.time() - manifest["killed_at"])
    track = (data_dir / "audio" / manifest["unfinished"]["idempotent"]["id"]).read_bytes()
    tasks = queued_tasks(data_dir)
    with running(tiny_weights, data_dir, key=manifest["key"]) as service:
        yield Upgraded(service, manifest, tasks, track)


def without_new_fields(now: Any, was: Any) -> Any:
    """What a newer version answers, less the fields that the older one did not have."""
    if isinstance(now, dict) and isinstance(was, dict):
        return {name: without_new_fields(now[name], value) for name, value in was.items() if name in now}
    return now


def test_finished_jobs_read_as_before(upgraded: Upgraded) -> None:
    for was in upgraded.was(done=True):
        now = upgraded.service.job(was["id"])
        kept = {name: value for name, value in was.items() if name not in MAY_CHANGE}
        assert without_new_fields(now, kept) == kept


def test_unfinished_jobs_come_to_their_end(upgraded: Upgraded) -> None:
    for job in upgraded.manifest["unfinished"].values():
        assert upgraded.service.finished(job["id"])["status"] == job["becomes"]


def test_unfinished_jobs_keep_what_their_client_said(upgraded: Upgraded) -> None:
    for was in upgraded.was(done=False):
        now = upgraded.service.finished(was["id"])
        assert [now[name] for name in SAID] == [was[name] for name in SAID]
        assert now["audio"]["sha256"] == was["audio"]["sha256"]


def test_the_job_that_was_running_is_run_again(upgraded: Upgraded) -> None:
    assert upgraded.service.finished(upgraded.id_of("running"))["attempt"] == 2


def test_a_job_that_the_old_api_queued_is_run_by_the_new_worker(upgraded: Upgraded) -> None:
    for name in ("queued", "idempotent", "joined"):
        # During a rolling upgrade, API and workers of both versions share one queue: the name in it is a contract.
        assert upgraded.tasks[upgraded.id_of(name)] == "worker.tasks.score_track"
        assert upgraded.service.finished(upgraded.id_of(name))["attempt"] == 1


def test_a_job_whose_deadline_passed_meanwhile_says_so(upgraded: Upgraded) -> None:
    assert upgraded.service.finished(upgraded.id_of("overdue"))["status_reason"] == "deadline_exceeded"


def test_the_list_of_jobs_is_the_same(upgraded: Upgraded) -> None:
    listed = upgraded.service.client.get("/jobs").raise_for_status().json()["items"]
    assert [job["id"] for job in listed] == [job["id"] for job in upgraded.manifest["jobs"]]


def test_a_batch_has_the_same_items_and_is_done_with_the_last_of_them(upgraded: Upgraded) -> None:
    was = upgraded.manifest["batch"]
    upgraded.wait_for_all()
    now = upgraded.service.client.get(f"/batches/{was['id']}").raise_for_status().json()
    assert [now[name] for name in ("id", "batch_external_id", "metadata", "created_at", "done")] == [
        *(was[name] for name in ("id", "batch_external_id", "metadata", "created_at")),
        True,
    ]
    assert [item_of(item) for item in now["items"]] == [item_of(item) for item in was["items"]]


def item_of(item: Json) -> Any:
    """What an item of a batch came to: a job's id, or the problem with its file."""
    return item["job"]["id"] if item.get("job") else item["problem"]


def test_a_request_that_is_repeated_leads_to_the_job_it_made_before(upgraded: Upgraded) -> None:
    headers = {"Idempotency-Key": upgraded.manifest["idempotency_key"]}
    answer = upgraded.service.client.post("/score", files={"file": ("x.wav", upgraded.track)}, headers=headers)
    assert answer.headers["Idempotent-Replayed"] == "true"
    assert answer.json()["id"] == upgraded.id_of("idempotent")


def test_a_client_that_follows_a_job_goes_on_after_the_last_event_it_heard(upgraded: Upgraded) -> None:
    headers = {"Last-Event-ID": upgraded.manifest["last_event_of_running"]}
    events = upgraded.service.client.get(f"/jobs/{upgraded.id_of('running')}/events", headers=headers).text
    names = [line.removeprefix("event: ") for line in events.splitlines() if line.startswith("event: ")]
    assert set(names[:-1]) == {"job.progress"}  # and no snapshot, which tells from the beginning
    assert names[-1] == "job.succeeded"


def test_a_deleted_job_stays_deleted(upgraded: Upgraded) -> None:
    assert upgraded.service.client.get(f"/jobs/{upgraded.manifest['deleted']}").status_code == 410


def test_api_keys_open_what_they_opened_and_nobody_else_comes_in(upgraded: Upgraded) -> None:
    def status(key: str) -> int:
        headers = {"Authorization": f"Bearer {key}" if key else ""}
        return upgraded.service.client.get("/jobs", headers=headers).status_code

    assert [status(key) for key in (upgraded.manifest["key"], upgraded.manifest["revoked_key"], "")] == [200, 401, 401]


def test_nothing_is_left_over_in_the_end(upgraded: Upgraded) -> None:
    upgraded.wait_for_all()
    data_dir = upgraded.service.data_dir
    with Redis.from_url((data_dir / "redis" / "url").read_text()) as redis:
        assert in_the_end(lambda: [key for key in UNFINISHED if redis.exists(key)]) == []
    assert in_the_end(lambda: [path.name for path in audio_files(data_dir / "audio")]) == []


def in_the_end(left: Callable[[], list[str]]) -> list[str]:
    """What is left once nothing is, or after a while: the service tidies up every few seconds."""
    deadline = time.monotonic() + SETTLE_S
    while (found := left()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found
