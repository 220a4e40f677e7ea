"""API keys: what is kept of them, and which file of keys is refused."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from redis import Redis

from app.api.auth.api_keys import ApiKeysError, KeyFile, KeyStore
from app.core.callers import DEFAULT_SCOPES, Limits
from app.core.settings import ApiSettings
from app.main import create_app
from model.domain import ApexError
from tests.app.api.asgi import SECRET
from tests.conftest import KEYS


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture
def keys(redis: Redis) -> KeyStore:
    return KeyStore(redis, KEYS)


def test_a_key_has_a_prefix_an_id_and_256_random_bits(keys: KeyStore) -> None:
    key, presented = keys.create(tenant="acme", name="backend")
    match = re.fullmatch(r"msk_live_([A-Za-z0-9]{12})_([A-Za-z0-9]{43})", presented)
    assert match
    assert match[1] == key.id
    assert key.scopes == DEFAULT_SCOPES
    assert 62**43 > 2**256


def test_only_a_hash_of_the_secret_is_kept(keys: KeyStore, redis: Redis) -> None:
    key, presented = keys.create(tenant="acme")
    kept = redis.hget(KEYS.api_keys, key.id)
    assert kept is not None
    secret = presented.rpartition("_")[2]
    assert secret.encode() not in (kept if isinstance(kept, bytes) else kept.encode())
    assert json.loads(kept)["sha256"] == digest(secret)


def test_a_key_is_found_by_nothing_but_itself(keys: KeyStore) -> None:
    key, presented = keys.create(tenant="acme", scopes=["jobs:read"], limits=Limits(bytes_per_day=7))
    _, other = keys.create(tenant="other")
    found = keys.find(presented)
    assert found == key
    assert (found.tenant, found.scopes, found.limits.bytes_per_day) == ("acme", ("jobs:read",), 7)
    secret = presented.rpartition("_")[2]
    swapped = f"msk_live_{key.id}_{other.rpartition('_')[2]}"
    for wrong in ("", presented[:-1], presented + "x", swapped, secret, f"msk_live__{secret}", presented.upper(), "ü"):
        assert keys.find(wrong) is None, wrong


def test_a_revoked_key_is_listed_and_opens_nothing(keys: KeyStore) -> None:
    key, presented = keys.create(tenant="acme")
    revoked = keys.revoke(key.id)
    assert keys.find(presented) is None
    assert keys.list_all() == [revoked]
    assert keys.revoke(key.id) == revoked
    assert keys.any()


def test_keys_are_listed_in_the_order_of_their_creation(keys: KeyStore) -> None:
    made = [keys.create(tenant=tenant)[0] for tenant in ("c", "a", "b")]
    assert keys.list_all() == sorted(made, key=lambda key: key.created_at or 0)


def test_a_key_with_an_invalid_tenant_or_scope_is_not_created(keys: KeyStore) -> None:
    with pytest.raises(ApiKeysError, match="no key of that id"):
        keys.revoke("nobody")
    with pytest.raises(ApexError, match="tenant"):
        keys.create(tenant="a b")
    for scopes in ([], ["score:read"], ["score:write", ""]):
        with pytest.raises(ApiKeysError, match="scopes"):
            keys.create(tenant="acme", scopes=scopes)
    assert not keys.any()


def test_a_limit_that_a_key_lacks_is_the_services() -> None:
    assert Limits(jobs_in_flight=1).with_defaults(Limits(10, 20, 30)) == Limits(10, 1, 30)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "keys"
    path.write_bytes(text.encode("latin-1"))
    return path


def test_a_key_of_before_does_not_get_a_scope_that_allowed_nothing_then(keys: KeyStore, redis: Redis) -> None:
    key, presented = keys.create(tenant="acme", scopes=["jobs:read", "ops:read"])
    assert keys.find(presented) == key
    record = json.loads(redis.hget(KEYS.api_keys, key.id) or "")
    del record["scopes_version"]
    redis.hset(KEYS.api_keys, key.id, json.dumps(record))
    found = keys.find(presented)
    assert found
    assert found.scopes == ("jobs:read",)


def test_a_line_of_a_file_means_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"acme {digest('secret')} jobs:read,ops:read\n")
    found = KeyFile.load(path).find("secret")
    assert found
    assert found.scopes == ("jobs:read", "ops:read")


def test_a_file_names_tenants_hashes_and_scopes(tmp_path: Path) -> None:
    lines = ["# keys", "", f"alice {digest(SECRET)}", f"alice {digest('newer')}  jobs:read,score:write"]
    keys = KeyFile.load(written(tmp_path, "\n".join([*lines, f"bob\t{digest('bobs').upper()}"])))
    found = [keys.find(key) for key in (SECRET, "newer", "bobs", "x", "ü")]
    assert [key and key.tenant for key in found] == ["alice", "alice", "bob", None, None]
    assert [key and key.scopes for key in found[:2]] == [DEFAULT_SCOPES, ("score:write", "jobs:read")]
    assert len({key.id for key in found if key}) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "alice\n",
        f"alice {SECRET}\n",
        f"alice {digest('x')[:-1]}\n",
        f"alice {digest('x')} {SECRET}\n",
        f"alice {digest('x')} jobs:read extra\n",
        f"{digest('x')}\n",
        f"ali ce {digest('x')}\n",
        f"ali/ce {digest('x')}\n",
        "alice \xff\n",
    ],
)
def test_a_malformed_file_of_keys_stops_the_start_without_showing_a_key(
    settings: ApiSettings, tmp_path: Path, text: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ApiKeysError, match=str(path)) as caught:
        create_app(settings.model_copy(update={"api_keys_file": path}))
    assert SECRET not in str(caught.value)


def test_a_missing_file_of_keys_stops_the_start(settings: ApiSettings, tmp_path: Path) -> None:
    with pytest.raises(ApiKeysError, match="cannot be read"):
        create_app(settings.model_copy(update={"api_keys_file": tmp_path / "none"}))
