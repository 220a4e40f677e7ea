"""API keys: who may use the service, with which scopes and limits. Only hashes of secrets are kept.

A key is `msk_live_<id>_<secret>`: a prefix that secret scanners know, an id for lookups and logs, and 256 random bits.
A test key begins with `msk_test_`.
Keys are in Redis, where `apex keys` creates and revokes them while the service runs, or in a file for containers.
"""

import hashlib
import hmac
import json
import logging
import re
import secrets
import string
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

from redis import Redis

from app.core import stored
from app.core.callers import DEFAULT_SCOPES, OPS_SCOPE, SCOPES, Limits, account_name
from app.core.printable import printable
from app.core.redis.client import redis_now_s, text
from app.core.redis.keys import RedisKeys
from app.core.redis.replicas import Replicas
from model.domain import ApexError
from model.files import atomic_write

log = logging.getLogger(__name__)

#: In the data folder, once there was a key.
MARK = "api-keys-required"
MARK_TEXT = "This service had API keys, so it asks for one even if Redis has lost them. Delete this file to open it.\n"

LIVE_PREFIX, TEST_PREFIX = "msk_live", "msk_test"
ID_CHARS = 12
#: 43 characters of 62 kinds hold 256 bits.
SECRET_CHARS = 43

_ALPHABET = string.ascii_letters + string.digits
_KEY = re.compile(
    rf"(?P<prefix>{LIVE_PREFIX}|{TEST_PREFIX})_(?P<id>[A-Za-z0-9]{{1,64}})_(?P<secret>[A-Za-z0-9]{{1,256}})"
)
_LINE = re.compile(r"(?P<tenant>\S+)\s+(?P<digest>[0-9a-fA-F]{64})(\s+(?P<scopes>\S+))?")


class ApiKeysError(ApexError):
    """API keys cannot be created or read as asked; the text says why and never shows a key."""


@dataclass(frozen=True)
class ApiKey:
    """The record of a key. `sha256` is of the secret, or of the whole key for a test key and for one from a file.

    So a test key opens nothing under the prefix of live keys, in an older version neither.
    """

    id: str
    tenant: str
    sha256: str
    name: str = ""
    scopes: tuple[str, ...] = DEFAULT_SCOPES
    created_at: stored.EpochSeconds | None = None
    revoked_at: stored.EpochSeconds | None = None
    limits: Limits = field(default_factory=Limits)
    livemode: bool = True
    scopes_version: int = 1


#: What the scopes of a key mean that is made now. In version 1 every key had `ops:read`, which allowed nothing.
SCOPES_VERSION = 2
#: Stands in for a key that does not exist, so that an unknown id takes as long as a wrong secret. Nothing hashes to it.
NOBODY = ApiKey(id="", tenant="", sha256="-" * 64, name="nobody", created_at=0.0)
DUMMY_KEY = json.dumps(asdict(NOBODY))


class KeyLookup(Protocol):
    """A source of API keys."""

    def find(self, presented: str) -> ApiKey | None:
        """The record of the key that was presented; None for one that is unknown or revoked."""


class KeyStore:
    """The keys in Redis. A revoked key is kept, so that the service goes on requiring keys. Blocking.

    `mark` is a file that says that there was a key: a Redis that has lost its data must not open the service. Deleting
    the file opens a service without keys again.
    """

    def __init__(
        self, redis: Redis, keys: RedisKeys, *, mark: Path | None = None, replicas: Replicas | None = None
    ) -> None:
        self.redis = redis
        self.keys = keys
        self._replicas = replicas or Replicas(redis, keys)
        self._mark = mark

    def create(
        self,
        *,
        tenant: str,
        name: str = "",
        scopes: Iterable[str] = DEFAULT_SCOPES,
        limits: Limits | None = None,
        livemode: bool = True,
    ) -> tuple[ApiKey, str]:
        """Create a live or a test key; returns its record, and the key itself, which is not stored.

        Raises `ApexError` for an invalid tenant or scope, `NotReplicated` for a key that may be lost again.
        """
        key_id, secret = _random(ID_CHARS), _random(SECRET_CHARS)
        presented = f"{LIVE_PREFIX if livemode else TEST_PREFIX}_{key_id}_{secret}"
        key = ApiKey(
            id=key_id,
            tenant=account_name(tenant),
            sha256=_sha256(secret if livemode else presented),
            name=name,
            scopes=checked_scopes(scopes),
            created_at=redis_now_s(self.redis),
            limits=limits or Limits(),
            livemode=livemode,
            scopes_version=SCOPES_VERSION,
        )
        with self._replicas.confirmed() as client:
            client.hset(self.keys.api_keys, key.id, json.dumps(asdict(key)))
        self._write_mark()
        return key, presented

    def list_all(self) -> list[ApiKey]:
        """The records of all keys that can be read, revoked ones too, oldest first."""
        found = stored.read(self.redis.hgetall, self.keys.api_keys) or {}
        keys = [key for key_id, raw in found.items() if (key := _key(key_id, raw))]
        return sorted(keys, key=lambda key: key.created_at or 0.0)

    def last_uses(self) -> dict[str, float]:
        """When keys were last used, by id, to the minute; without keys that never were."""
        found = stored.read(self.redis.hgetall, self.keys.api_key_last_uses) or {}
        times = {text(key_id): stored.number(self.keys.api_key_last_uses, at) for key_id, at in found.items()}
        return {key_id: at for key_id, at in times.items() if at is not None}

    def revoke(self, key_id: str) -> ApiKey:
        """Revoke a key from now on; does nothing to a revoked one.

        Raises `ApiKeysError` for an unknown id, and for a key that cannot be read: nobody gets in with it; and
        `NotReplicated` for a key that may come back.
        """
        with self._replicas.confirmed() as client:
            return self._revoke(client, key_id)

    def _revoke(self, redis: Redis, key_id: str) -> ApiKey:
        raw = redis.hget(self.keys.api_keys, key_id)
        if raw is None:
            raise ApiKeysError("there is no key of that id; 'apex keys list' shows them")
        key = _key(key_id, raw)
        if key is None:
            raise ApiKeysError("what is stored of that key cannot be read, so nobody gets in with it")
        if key.revoked_at is None:
            key = replace(key, revoked_at=redis_now_s(redis))
            # Into what is there: a newer version may have written fields that this one does not know.
            fields = json.loads(raw) | {"revoked_at": key.revoked_at}
            redis.hset(self.keys.api_keys, key.id, json.dumps(fields))
        return key

    def any(self) -> bool:
        """Whether a key was ever created, as far as Redis knows or the mark tells."""
        if self._is_marked():
            return True
        exists = bool(self.redis.exists(self.keys.api_keys))
        if exists:
            self._write_mark()
        return exists

    def are_lost(self) -> bool:
        """Whether there was a key, and Redis has none any more."""
        return self._is_marked() and not stored.read(self.redis.hlen, self.keys.api_keys)

    def find(self, presented: str) -> ApiKey | None:
        match = _KEY.fullmatch(presented)
        key_id = match["id"] if match else ""
        secret = match["secret"] if match and match["prefix"] == LIVE_PREFIX else presented
        raw = stored.read(self.redis.hget, self.keys.api_keys, key_id)
        key = _key(key_id, raw or DUMMY_KEY) or NOBODY
        matches = hmac.compare_digest(_sha256(secret).encode(), key.sha256.encode())
        return key if matches and key.revoked_at is None else None

    def _is_marked(self) -> bool:
        return self._mark is not None and self._mark.exists()

    def _write_mark(self) -> None:
        if self._mark is None or self._mark.exists():
            return
        try:
            with atomic_write(self._mark, durable=True) as partial:
                partial.write_text(MARK_TEXT, "utf-8")
        except OSError as error:
            log.warning("a loss of Redis's data would open this service: %s cannot be written: %s", self._mark, error)


class KeyFile:
    """The keys of a file, read once. A tenant may own several, so that they can be changed without a gap.

    One that begins like a test key is one.
    """

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = tuple(keys)

    @classmethod
    def load(cls, path: Path) -> "KeyFile":
        """Read lines of `tenant sha256-of-key [scope,scope]`; blank lines and `#` comments are skipped."""
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ApiKeysError(f"{path}: cannot be read as text: {error}") from error
        keys = [_parse(path, number, line) for number, line in enumerate(lines, 1) if _has_content(line)]
        if not keys:
            raise ApiKeysError(f"{path}: holds no key, so nobody could use the service")
        return cls(keys)

    def find(self, presented: str) -> ApiKey | None:
        digest = _sha256(presented)
        match = None
        for key in self._keys:
            if hmac.compare_digest(digest, key.sha256):
                match = replace(key, livemode=not presented.startswith(TEST_PREFIX))
        return match


def checked_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """Scopes in their usual order. Raises `ApiKeysError` for none, and for one that does not exist."""
    chosen = set(scopes)
    if not chosen or not chosen <= set(SCOPES):
        raise ApiKeysError(f"scopes are a comma-separated choice of {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in chosen)


def _key(key_id: bytes | str, raw: bytes | str) -> ApiKey | None:
    key = stored.value_of(ApiKey, f"API key {printable(text(key_id))}", raw)
    if key and key.scopes_version < SCOPES_VERSION and OPS_SCOPE in key.scopes:
        return replace(key, scopes=tuple(scope for scope in key.scopes if scope != OPS_SCOPE))
    return key


def _sha256(value: str) -> str:
    # A header's Latin-1 bytes arrive as text; any text must be hashable.
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _has_content(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _parse(path: Path, number: int, line: str) -> ApiKey:
    match = _LINE.fullmatch(line.strip())
    try:
        if not match:
            raise ApiKeysError("expected 'tenant sha256-of-key [scopes]' (64 hexadecimal digits)")
        tenant, digest = account_name(match["tenant"]), match["digest"].lower()
        scopes = checked_scopes(match["scopes"].split(",")) if match["scopes"] else DEFAULT_SCOPES
    except ApexError as error:
        # The line is not shown: it may hold the key itself by mistake.
        raise ApiKeysError(f"{path}, line {number}: {error}") from None
    return ApiKey(id=f"file-{digest[:8]}", tenant=tenant, sha256=digest, scopes=scopes)
