"""Idempotency keys: two requests with the same key create one job, even if the response to the first is lost.

The first request with a key claims it, with a lease that is renewed while it works, so that a process that dies does
not block its client. The claim fixes the id of the job before the job exists: a request that takes the claim over finds
the job that the first one created. An entry is kept for a day, and never longer than its job.
"""

import asyncio
import hashlib
import json
import logging
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from redis import Redis
from redis.exceptions import RedisError

from app.core.jobs.models import new_job_id
from app.core.lua.script import LuaScript
from app.core.redis.client import text
from app.core.redis.failure import brief
from app.core.redis.keys import RedisKeys

log = logging.getLogger(__name__)

MAX_TTL_S = 24 * 60 * 60
#: A claim that was not renewed for this long may be taken over.
LEASE_S = 15.0
RENEWALS_PER_LEASE = 3

LUA = "api/submissions/lua/{}.lua"
STEPS = ("begin", "renew", "complete", "release")


@dataclass(frozen=True)
class StoredResponse:
    """A response as it was sent, byte for byte."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Completed:
    """The response to an earlier request, the fingerprint of that request, and of its body if it declared a digest."""

    response: StoredResponse
    fingerprint: str
    body_fingerprint: str


@dataclass(frozen=True)
class InProgress:
    """Another request is at work under this key; a job that it creates has this id."""

    job_id: str


@dataclass(frozen=True)
class Claim:
    """The right to work under a key. `taken_over`: an earlier request had it, and may have created the job."""

    entry: str
    token: str
    job_id: str
    taken_over: bool


class IdempotencyKeys:
    """The claims and responses of idempotency keys. Blocking, except `keep_alive`."""

    def __init__(self, redis: Redis, keys: RedisKeys, *, result_ttl_s: int, lease_s: float = LEASE_S) -> None:
        self.redis = redis
        self.keys = keys
        self.ttl_s = min(MAX_TTL_S, result_ttl_s)
        self.lease_s = lease_s
        self._scripts = {step: LuaScript(redis, LUA.format("entry"), LUA.format(step)) for step in STEPS}

    def begin(self, *, tenant: str, route: str, key: str) -> Claim | InProgress | Completed:
        """Claim a key, unless another request has done so."""
        entry, token = self.keys.idempotency(tenant, route, key), secrets.token_hex(16)
        state, *values = self._run("begin", entry, token, lease_s=self.lease_s, job_id=new_job_id())
        match text(state):
            case "claimed":
                return Claim(entry, token, text(values[0]), taken_over=bool(values[1]))
            case "in_progress":
                return InProgress(text(values[0]))
        return _completed(*map(text, values))

    def renew(self, claim: Claim) -> bool:
        """Renew the lease of a claim; False when another request has taken it over."""
        return bool(self._run("renew", claim.entry, claim.token, lease_s=self.lease_s))

    def complete(self, claim: Claim, response: StoredResponse, *, fingerprint: str, body_fingerprint: str) -> None:
        """Store the response, for requests that repeat this one."""
        fields = {
            "status": str(response.status),
            "headers": json.dumps(dict(response.headers)),
            "body": response.body.decode(),
            "fingerprint": fingerprint,
            "request_print": body_fingerprint,
        }
        self._run("complete", claim.entry, claim.token, fields=fields)

    def release(self, claim: Claim) -> None:
        """Give up a claim without a response, so that a corrected retry can claim the key."""
        self._run("release", claim.entry, claim.token)

    def _run(self, step: str, entry: str, token: str, **arguments: Any) -> Any:
        return self._scripts[step]([entry], token=token, ttl_s=self.ttl_s, **arguments)

    @asynccontextmanager
    async def keep_alive(self, claim: Claim) -> AsyncIterator[None]:
        """Renew a claim during the block, and release it when the block fails."""
        renewing = asyncio.create_task(self._renew_forever(claim), name="claim")
        try:
            yield
        except BaseException:
            await asyncio.shield(asyncio.create_task(self._release_quietly(claim)))
            raise
        finally:
            renewing.cancel()

    async def _renew_forever(self, claim: Claim) -> None:
        while True:
            await asyncio.sleep(self.lease_s / RENEWALS_PER_LEASE)
            try:
                await run_in_threadpool(self.renew, claim)
            except RedisError as error:
                log.warning("idempotency lock not renewed: %s", brief(error))

    async def _release_quietly(self, claim: Claim) -> None:
        try:
            await run_in_threadpool(self.release, claim)
        except RedisError as error:
            log.warning("idempotency lock not released, it will expire: %s", brief(error))


def fingerprint(sha256: str, options: BaseModel) -> str:
    """Identifies what a request asks for: the bytes of its tracks, and its options."""
    # Defaults are left out, so that a new option does not change the fingerprints of old requests.
    given = options.model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps([sha256, given], sort_keys=True).encode()).hexdigest()


def _completed(status: str, headers: str, body: str, fingerprint: str, body_fingerprint: str) -> Completed:
    return Completed(StoredResponse(int(status), json.loads(headers), body.encode()), fingerprint, body_fingerprint)
