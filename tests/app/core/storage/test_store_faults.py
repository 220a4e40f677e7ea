"""An object store that is slow, busy, cut off or away in the middle of an upload or a download."""

import secrets
import threading
from collections.abc import Iterator, Mapping

import pytest
from redis import Redis

from app.core import deployment
from app.core.deployment import Deployment
from app.core.misconfiguration import Misconfigured
from app.core.problems import Problem
from app.core.storage import object_store
from app.core.storage.object_store import PART_BYTES, ObjectStorage
from app.core.storage.store_errors import StoreUnavailable
from tests.app.core.storage.conftest import object_storage
from tests.app.core.storage.faults import BUSY, CUT, HALF_ANSWER, LOST_ANSWER, STALL, FaultyProxy, faulty_proxy
from tests.conftest import KEYS

CONTENT = secrets.token_bytes(2 * PART_BYTES + 1)
BLOCK = 256 * 1024


@pytest.fixture
def proxy(s3: Mapping[str, str]) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3["AWS_ENDPOINT_URL"]) as passing:
        yield passing


@pytest.fixture
def url() -> str:
    return f"s3://apex/{secrets.token_hex(4)}"


@pytest.fixture
def hasty(s3: Mapping[str, str], proxy: FaultyProxy, url: str, monkeypatch: pytest.MonkeyPatch) -> ObjectStorage:
    """A storage that gives up soon."""
    monkeypatch.setattr(object_store, "PATIENCE_S", 0.5)
    environment = {**s3, "AWS_ENDPOINT_URL": proxy.url}
    return object_storage(monkeypatch, environment, url, timeout_s=1)


@pytest.fixture
def storage(s3: Mapping[str, str], proxy: FaultyProxy, url: str, monkeypatch: pytest.MonkeyPatch) -> ObjectStorage:
    environment = {**s3, "AWS_ENDPOINT_URL": proxy.url}
    return object_storage(monkeypatch, environment, url, timeout_s=6)  # ten megabytes take a busy machine seconds


def upload(storage: ObjectStorage, content: bytes = CONTENT) -> str:
    with storage.receive("job_1") as part:
        for start in range(0, len(content), BLOCK):
            part.append(content[start : start + BLOCK])
            part.flush()
        part.commit()
    return part.key


def read(storage: ObjectStorage, key: str) -> bytes:
    with storage.open(key) as file:
        return file.read()


@pytest.mark.parametrize(
    ("what", "method", "target"),
    [
        (BUSY, "POST", "uploads"),
        (CUT, "POST", "uploads"),
        (STALL, "PUT", "partNumber=1"),
        (LOST_ANSWER, "PUT", "partNumber=1"),
        (BUSY, "PUT", "partNumber=3"),
        (CUT, "PUT", "partNumber=3"),
        (LOST_ANSWER, "POST", "uploadId"),
        (STALL, "POST", "uploadId"),
    ],
)
def test_an_upload_survives_a_request_that_fails(
    storage: ObjectStorage, proxy: FaultyProxy, what: str, method: str, target: str
) -> None:
    proxy.fail(what, times=1, method=method, part_of_target=target)
    key = upload(storage)
    assert read(storage, key) == CONTENT
    assert list(storage.orphans(older_than_s=-60)) == [key], "there is one object"


@pytest.mark.parametrize("what", [BUSY, CUT, LOST_ANSWER, STALL])
def test_a_small_upload_does_too(storage: ObjectStorage, proxy: FaultyProxy, what: str) -> None:
    proxy.fail(what, times=1, method="PUT", part_of_target="audio")
    assert read(storage, upload(storage, b"small")) == b"small"


@pytest.mark.parametrize("what", [BUSY, STALL])
def test_an_upload_whose_completion_is_never_answered_but_done_is_kept(
    storage: ObjectStorage, proxy: FaultyProxy, what: str
) -> None:
    """The first try is carried out unheard, and all that follow fail."""
    tries: list[str] = []

    def fault(method: str, target: str) -> str | None:
        if method == "POST" and "uploadId" in target:
            tries.append(target)
            return LOST_ANSWER if len(tries) == 1 else what
        return None

    proxy.fault = fault
    assert read(storage, upload(storage)) == CONTENT


@pytest.mark.parametrize("what", [BUSY, CUT, STALL])
@pytest.mark.parametrize("content", [CONTENT, b"small"], ids=["parts", "small"])
def test_a_store_that_stays_away_is_a_problem_and_leaves_nothing(
    storage: ObjectStorage, hasty: ObjectStorage, proxy: FaultyProxy, what: str, content: bytes
) -> None:
    proxy.fail(what, times=10_000, method="PUT", part_of_target="audio")
    with pytest.raises(Problem, match="storage_unavailable"):
        upload(hasty, content)
    proxy.heal()
    assert list(storage.orphans(older_than_s=-60)) == []
    begun = [method for method, target in proxy.seen if "uploadId" in target]
    assert not begun or "DELETE" in begun, "it is aborted"


def test_a_client_that_leaves_aborts_the_upload(storage: ObjectStorage, proxy: FaultyProxy) -> None:
    with storage.receive("job_1") as part:
        part.append(CONTENT)
        part.flush()
    assert "DELETE" in [method for method, target in proxy.seen if "uploadId" in target]


def test_an_upload_that_cannot_be_aborted_is_left_to_the_store(
    storage: ObjectStorage, proxy: FaultyProxy, caplog: pytest.LogCaptureFixture
) -> None:
    with storage.receive("job_1") as part:
        part.append(CONTENT)
        part.flush()
        proxy.fail(BUSY, times=10_000, method="DELETE")
    assert "could not be aborted" in caplog.text


def test_no_more_than_two_parts_wait_for_a_store_that_stalls(storage: ObjectStorage, proxy: FaultyProxy) -> None:
    """What was taken from the client and has not come to the store is counted, as long as nothing goes on."""
    arrived, taken = threading.Event(), 0

    def fault(method: str, target: str) -> str | None:
        if "partNumber" in target:
            arrived.set()
            proxy.go_on.wait(30)
        return None

    proxy.fault = fault
    part = storage.receive("job_1")

    def send() -> None:
        nonlocal taken
        for _ in range(60):
            part.append(bytes(BLOCK))
            part.flush()
            taken += BLOCK

    sender = threading.Thread(target=send)
    sender.start()
    assert arrived.wait(30)
    sender.join(0.5)
    assert sender.is_alive(), "the client is held up"
    assert taken <= 2 * PART_BYTES, taken
    proxy.go_on.set()
    sender.join()
    part.discard()


@pytest.mark.parametrize("what", [BUSY, CUT, LOST_ANSWER, HALF_ANSWER, STALL])
def test_a_download_survives_a_request_that_fails(storage: ObjectStorage, proxy: FaultyProxy, what: str) -> None:
    key = upload(storage)
    proxy.fail(what, times=1, method="GET")
    assert read(storage, key) == CONTENT


@pytest.mark.parametrize("what", [BUSY, CUT, HALF_ANSWER, STALL])
def test_a_store_that_stays_away_is_no_missing_file(
    storage: ObjectStorage, hasty: ObjectStorage, proxy: FaultyProxy, what: str
) -> None:
    key = upload(storage)
    proxy.fail(what, times=10_000, method="GET")
    with pytest.raises(StoreUnavailable):
        read(hasty, key)


def test_what_cannot_be_deleted_is_left_to_the_reconciler(
    storage: ObjectStorage, hasty: ObjectStorage, proxy: FaultyProxy, caplog: pytest.LogCaptureFixture
) -> None:
    key = upload(storage, b"small")
    proxy.fail_all(CUT)
    hasty.delete(key)
    proxy.heal()
    assert "could not be deleted" in caplog.text
    assert list(storage.orphans(older_than_s=-60)) == [key]


def test_a_store_that_takes_no_writes_is_noticed_by_the_probe(hasty: ObjectStorage, proxy: FaultyProxy) -> None:
    proxy.fail_all(BUSY)
    with pytest.raises(Problem, match="storage_unavailable"):
        hasty.check_writable()
    with pytest.raises(StoreUnavailable):
        hasty.check_readable()


@pytest.mark.parametrize(
    ("url", "environment", "said"),
    [
        ("s3://apex/x", {"AWS_SECRET_ACCESS_KEY": "SEKRET"}, "SignatureDoesNotMatch"),
        ("s3://apex/x", {"AWS_ACCESS_KEY_ID": "SEKRET"}, "InvalidAccessKeyId"),
        ("s3://no-such-bucket/x", {}, "NoSuchBucket"),
        ("s3://apex/x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "error sending request"),
    ],
)
def test_what_is_wrong_is_said_and_no_secret(
    s3: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, url: str, environment: Mapping[str, str], said: str
) -> None:
    storage = object_storage(monkeypatch, {**s3, **environment}, url, timeout_s=1)
    for use in (storage.check_readable, storage.marker, storage.check_deletable, lambda: storage.open("job_1")):
        with pytest.raises(StoreUnavailable, match=said) as raised:
            use()
        assert "SEKRET" not in str(raised.value)
        assert "\n" not in str(raised.value)


def test_a_bucket_that_there_is_not_ends_a_start(
    s3: Mapping[str, str], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "REMEMBERED_WITHIN_S", 0.0)  # it may be there in a moment, while a store starts
    storage = object_storage(monkeypatch, s3, "s3://no-such-bucket/x", timeout_s=1)
    with pytest.raises(Misconfigured, match="s3://no-such-bucket/x cannot be used: .*NoSuchBucket"):
        Deployment(redis, KEYS, storage).require()
