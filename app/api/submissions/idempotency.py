"""Idempotency: the same key twice makes one job, whatever happened to the first request or to its answer.

The first request with a key claims it, with a lease that is renewed while it works, so that a process that dies does
not block its client. The claim names the job's id before there is a job: whoever claims the key again finds the job
that the first one made. An entry lives for a day, and never longer than the job that it leads to.
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

from app.core import redis_keys
from app.core.jobs.models import new_job_id
from app.core.lua.script import LuaScript
from app.core.redis_client import text

log = logging.getLogger(__name__)

MAX_TTL_S = 24 * 60 * 60
#: A claim whose owner is silent for this long may be taken over.
LEASE_S = 15.0
RENEWALS_PER_LEASE = 3

LUA = "api/submissions/lua/{}.lua"
STEPS = ("begin", "renew", "complete", "release")


@dataclass(frozen=True)
class StoredResponse:
    """What a client was told, byte for byte."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Completed:
    """An earlier request's answer, the print of what it sent, and of its very bytes where it declared them."""

    response: StoredResponse
    fingerprint: str
    body_fingerprint: str


@dataclass(frozen=True)
class InProgress:
    """Another request works under this key right now, on a job of this id if it comes to one."""

    job_id: str


@dataclass(frozen=True)
class Claim:
    """This request is the one that works under the key. `taken_over`: an earlier one may have made the job."""

    entry: str
    token: str
    job_id: str
    taken_over: bool


class IdempotencyKeys:
    """What was begun and answered under which key. Blocking, but for `held`."""

    def __init__(self, redis: Redis, *, result_ttl_s: int, lease_s: float = LEASE_S) -> None:
        self.redis = redis
        self.ttl_s = min(MAX_TTL_S, result_ttl_s)
        self.lease_s = lease_s
        self._scripts = {step: LuaScript(redis, LUA.format("entry"), LUA.format(step)) for step in STEPS}

    def begin(self, *, tenant: str, route: str, key: str) -> Claim | InProgress | Completed:
        """Claim a key, or find what became of it."""
        entry, token = redis_keys.idempotency(tenant, route, key), secrets.token_hex(16)
        found = self._run("begin", entry, token, lease_s=self.lease_s, job_id=new_job_id())
        match text(found[0]):
            case "claimed":
                return Claim(entry, token, text(found[1]), taken_over=bool(found[2]))
            case "in_progress":
                return InProgress(text(found[1]))
        return _completed(*map(text, found[1:]))

    def renew(self, claim: Claim) -> bool:
        """Keep a claim for another lease; False when it is another's by now."""
        return bool(self._run("renew", claim.entry, claim.token, lease_s=self.lease_s))

    def finish(self, claim: Claim, answer: StoredResponse, *, fingerprint: str, body_fingerprint: str) -> None:
        """Store what the client is told, for those who ask again."""
        fields = {
            "status": str(answer.status),
            "headers": json.dumps(dict(answer.headers)),
            "body": answer.body.decode(),
            "fingerprint": fingerprint,
            "request_print": body_fingerprint,
        }
        self._run("complete", claim.entry, claim.token, fields=fields)

    def release(self, claim: Claim) -> None:
        """Give a claim up without an answer, so that a corrected retry is free to work."""
        self._run("release", claim.entry, claim.token)

    def _run(self, step: str, entry: str, token: str, **arguments: Any) -> Any:
        return self._scripts[step]([entry], token=token, ttl_s=self.ttl_s, **arguments)

    @asynccontextmanager
    async def keep_alive(self, claim: Claim) -> AsyncIterator[None]:
        """Keep a claim alive during the block, and give it up when the block fails."""
        renewing = asyncio.create_task(self._renew_forever(claim), name="claim")
        try:
            yield
        except BaseException:
            await asyncio.shield(asyncio.create_task(self._released(claim)))
            raise
        finally:
            renewing.cancel()

    async def _renew_forever(self, claim: Claim) -> None:
        while True:
            await asyncio.sleep(self.lease_s / RENEWALS_PER_LEASE)
            try:
                await run_in_threadpool(self.renew, claim)
            except RedisError:
                log.warning("idempotency lock not renewed", exc_info=True)

    async def _released(self, claim: Claim) -> None:
        try:
            await run_in_threadpool(self.release, claim)
        except RedisError:
            log.warning("idempotency lock not released; it will expire", exc_info=True)


def fingerprint(sha256: str, options: BaseModel) -> str:
    """What a request asks for: the bytes of its track and what its sender says about it."""
    # Defaults are left out, so that a new option does not change the print of old requests.
    said = options.model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps([sha256, said], sort_keys=True).encode()).hexdigest()


def _completed(status: str, headers: str, body: str, fingerprint: str, body_fingerprint: str) -> Completed:
    return Completed(StoredResponse(int(status), json.loads(headers), body.encode()), fingerprint, body_fingerprint)
