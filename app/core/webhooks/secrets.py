"""The secrets that sign webhooks: one a tenant, and while it is being replaced the one before, too.

They are kept in Redis under a name of their own. Only what makes one shows it; no record, answer or log does.
"""

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from redis import Redis

from app.core import stored
from app.core.lua.script import LuaScript
from app.core.redis.client import redis_now_s, text
from app.core.redis.keys import RedisKeys
from app.core.redis.replicas import Replicas
from model.domain import ApexError

#: As Standard Webhooks writes them.
PREFIX = "whsec_"
SECRET_BYTES = 32
DAY_S = 24 * 60 * 60


class SecretError(ApexError):
    """What was asked of a tenant's secrets cannot be done; the text says why."""


@dataclass(frozen=True)
class Secret:
    """A secret; `expires_at` is when one that was replaced signs no more."""

    created_at: stored.EpochSeconds
    key: str = field(repr=False)
    expires_at: stored.EpochSeconds | None = None

    def is_valid(self, now: float) -> bool:
        return self.expires_at is None or self.expires_at > now


class WebhookSecrets:
    """The secrets of all tenants. Every method is blocking."""

    def __init__(self, redis: Redis, keys: RedisKeys, *, replicas: Replicas | None = None) -> None:
        self.redis = redis
        self.keys = keys
        self.replicas = replicas or Replicas(redis, keys)
        self._swap = LuaScript(redis, "core/webhooks/lua/swap.lua")

    def create(self, tenant: str) -> Secret:
        """Make a tenant's first secret. Raises `SecretError` where it has one, `NotReplicated` where it may be lost."""
        with self.replicas.confirmed() as client:
            before, _ = self._read(client, tenant)
            if before:
                raise SecretError(f"the tenant {tenant} has a secret; 'apex webhooks secret rotate' replaces it")
            made = _new(redis_now_s(client))
            return self._write(client, tenant, before, [made])

    def rotate(self, tenant: str, *, overlap_s: float = DAY_S) -> Secret:
        """Make a new secret; the one before signs beside it for `overlap_s` more, those before that no more.

        Raises `SecretError` where there is none to replace, and `NotReplicated`.
        """
        with self.replicas.confirmed() as client:
            before, known = self._read(client, tenant)
            if not before:
                raise SecretError(f"the tenant {tenant} has no secret; 'apex webhooks secret create' makes one")
            now = redis_now_s(client)
            current = [replace(secret, expires_at=now + overlap_s) for secret in known if secret.expires_at is None]
            return self._write(client, tenant, before, [_new(now), *current])

    def valid(self, tenant: str) -> list[str]:
        """What signs a tenant's webhooks now: newest first, one or two; none where there is no secret."""
        _, known = self._read(self.redis, tenant)
        now = redis_now_s(self.redis)
        return [secret.key for secret in known if secret.is_valid(now)]

    def exist(self, tenant: str) -> bool:
        """Whether a tenant's webhooks can be signed."""
        return bool(stored.read(self.redis.hexists, self.keys.webhook_secrets, tenant))

    def list_all(self) -> Mapping[str, Sequence[Secret]]:
        """The secrets of each tenant, newest first."""
        found = stored.read(self.redis.hgetall, self.keys.webhook_secrets) or {}
        return {text(tenant): _parsed(text(tenant), text(raw)) for tenant, raw in sorted(found.items())}

    def _read(self, client: Redis, tenant: str) -> tuple[str, list[Secret]]:
        found: bytes | str | None = stored.read(client.hget, self.keys.webhook_secrets, tenant)
        raw = text(found or "")
        return raw, _parsed(tenant, raw) if raw else []

    def _write(self, client: Redis, tenant: str, before: str, secrets: Sequence[Secret]) -> Secret:
        after = json.dumps([asdict(secret) for secret in secrets])
        if not self._swap([self.keys.webhook_secrets], client=client, field=tenant, before=before, after=after):
            raise SecretError(f"the secrets of {tenant} were changed at the same moment; look at them and try again")
        return secrets[0]


def _new(now: float) -> Secret:
    return Secret(now, PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())


def _parsed(tenant: str, raw: str) -> list[Secret]:
    return stored.value_of(list[Secret], f"webhook secrets of {tenant}", raw) or []
