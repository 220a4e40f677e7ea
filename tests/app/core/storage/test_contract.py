"""What every kind of storage does: a folder, an S3 server, and one that speaks like Azure Blob Storage."""

import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path

import pytest
from redis import Redis

from app.core.deployment import Deployment, NotOurStorage
from app.core.redis.keys import RedisKeys
from app.core.storage.folder import FolderStorage
from app.core.storage.object_store import PART_BYTES, ObjectStorage
from app.core.storage.protocol import Storage
from tests.app.core.storage.conftest import object_storage
from tests.conftest import KEYS

BLOCK = 256 * 1024


@pytest.fixture(params=["folder", "s3", "azure"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    if request.param == "folder":
        return FolderStorage(tmp_path)
    scheme = {"s3": "s3", "azure": "az"}[request.param]
    environment: Mapping[str, str] = request.getfixturevalue(request.param)
    return object_storage(monkeypatch, environment, f"{scheme}://apex/{secrets.token_hex(4)}/audio")


def stored(storage: Storage, content: bytes, job_id: str = "job_1") -> str:
    with storage.receive(job_id) as part:
        for start in range(0, len(content), BLOCK):
            part.append(content[start : start + BLOCK])
            part.flush()
        part.commit()
    return part.key


def everything(storage: Storage) -> list[str]:
    return sorted(storage.orphans(older_than_s=-60))


@pytest.mark.parametrize("n_bytes", [1, PART_BYTES - 1, PART_BYTES, 2 * PART_BYTES + 1])
def test_what_was_committed_is_read_back(storage: Storage, n_bytes: int) -> None:
    content = secrets.token_bytes(n_bytes)
    with storage.open(stored(storage, content)) as file:
        assert hashlib.sha256(file.read()).digest() == hashlib.sha256(content).digest()


def test_bytes_are_counted_and_hashed(storage: Storage) -> None:
    with storage.receive("job_1") as part:
        part.append(b"ab")
        part.flush()
        part.append(memoryview(b"c"))
        part.flush()
        assert (part.size_bytes, part.sha256) == (3, hashlib.sha256(b"abc").hexdigest())


def test_a_key_appears_with_the_commit(storage: Storage) -> None:
    with storage.receive("job_1") as part:
        part.append(bytes(PART_BYTES + 1))
        part.flush()
        with pytest.raises(FileNotFoundError):
            storage.open(part.key)
        part.commit()
    with storage.open(part.key) as file:
        assert len(file.read()) == part.size_bytes


@pytest.mark.parametrize("n_bytes", [0, 3, PART_BYTES + 1])
def test_what_is_not_committed_is_gone(storage: Storage, n_bytes: int) -> None:
    with storage.receive("job_1") as part:
        part.append(bytes(n_bytes))
        part.flush()
    assert everything(storage) == []
    with pytest.raises(ValueError, match="committed or discarded"):
        part.commit()


def test_a_deleted_key_is_gone_and_may_be_deleted_again(storage: Storage) -> None:
    key, other = stored(storage, b"abc", "job_1"), stored(storage, b"def", "job_2")
    storage.delete(key)
    storage.delete(key)
    with pytest.raises(FileNotFoundError):
        storage.open(key)
    assert everything(storage) == [other]


@pytest.mark.parametrize(
    "key", ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\0", "x" * 65, "a\n", "ü", "a?b", "%2e"]
)
def test_a_key_that_could_lead_elsewhere_is_refused(storage: Storage, key: str) -> None:
    for use in (storage.receive, storage.open, storage.delete):
        with pytest.raises(ValueError, match="not a storage key"):
            use(key)


def test_only_what_is_old_is_an_orphan(storage: Storage) -> None:
    key = stored(storage, b"abc")
    assert list(storage.orphans(older_than_s=60)) == []
    assert list(storage.orphans(older_than_s=-60)) == [key]


def test_it_says_whether_it_can_be_used(storage: Storage) -> None:
    storage.check_readable()
    storage.check_writable()
    assert storage.free_bytes() > 0
    assert everything(storage) == []


def test_a_store_says_what_it_has_and_whether_it_deletes(storage: Storage) -> None:
    if not isinstance(storage, ObjectStorage):
        pytest.skip("a folder says so elsewhere")
    key = stored(storage, b"abc")
    assert (storage.has(key), storage.has("job_none")) == (True, False)
    storage.check_deletable()
    assert everything(storage) == [key]


def test_a_mark_is_made_once(storage: Storage) -> None:
    assert storage.marker() is None
    assert storage.create_marker("mine") == "mine"
    assert storage.create_marker("yours") == "mine"
    assert storage.marker() == "mine"


def test_it_belongs_to_the_deployment_that_came_first(storage: Storage, redis: Redis) -> None:
    first, second = Deployment(redis, KEYS, storage), Deployment(redis, RedisKeys("stage"), storage)
    first.require(storage.check_readable, storage.check_deletable)
    with pytest.raises(NotOurStorage):
        second.check()
    first.check()
    assert everything(storage) == []
