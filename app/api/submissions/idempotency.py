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

from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from redis import Redis
from redis.exceptions import RedisError

from app.core.jobs.store import new_job_id, text

log = logging.getLogger(__name__)

MAX_TTL_S = 24 * 60 * 60
#: A claim whose owner is silent for this long may be taken over.
LEASE_S = 15.0
RENEWALS_PER_LEASE = 3

_COMMON = """
local entry = KEYS[1]
local function now()
  local clock = redis.call('TIME')
  return clock[1] + clock[2] / 1000000
end
local function mine(token) return redis.call('HGET', entry, 'token') == token end
"""


def _script(body: str) -> str:
    return _COMMON + body


# ARGV: token, lease_s, ttl_s, id for a new job. Returns 'stored' and the answer, 'busy' and the job's id, or 'claimed',
# the job's id and whether an earlier request had claimed it.
_BEGIN = _script("""
local found = redis.call('HMGET', entry, 'status', 'lease_until', 'job_id')
if found[1] then
  return {'stored', unpack(redis.call('HMGET', entry, 'status', 'headers', 'body', 'fingerprint', 'request_print'))}
end
if found[2] and tonumber(found[2]) > now() then return {'busy', found[3]} end
redis.call('HSET', entry, 'token', ARGV[1], 'lease_until', now() + ARGV[2], 'job_id', found[3] or ARGV[4])
redis.call('EXPIRE', entry, ARGV[3])
return {'claimed', found[3] or ARGV[4], found[3] and 1 or 0}
""")

# ARGV: token, lease_s, ttl_s. Returns 0 when the claim is another's by now.
_RENEW = _script("""
if not mine(ARGV[1]) then return 0 end
redis.call('HSET', entry, 'lease_until', now() + ARGV[2])
redis.call('EXPIRE', entry, ARGV[3])
return 1
""")

# ARGV: token, ttl_s, field, value, ... Stores the answer; the claim may do so again.
_FINISH = _script("""
if not mine(ARGV[1]) then return 0 end
redis.call('HSET', entry, unpack(ARGV, 3))
redis.call('EXPIRE', entry, ARGV[2])
return 1
""")

# ARGV: token. Lets the next request claim the key, unless an answer is stored. The job's id stays.
_RELEASE = _script("""
if mine(ARGV[1]) and redis.call('HEXISTS', entry, 'status') == 0 then
  redis.call('HDEL', entry, 'token', 'lease_until')
end
""")


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
        self._begin = redis.register_script(_BEGIN)
        self._renew = redis.register_script(_RENEW)
        self._finish = redis.register_script(_FINISH)
        self._release = redis.register_script(_RELEASE)

    def begin(self, *, tenant: str, route: str, key: str) -> Claim | InProgress | Completed:
        """Claim a key, or find what became of it."""
        entry, token = entry_key(tenant, route, key), secrets.token_hex(16)
        found = self._begin(keys=[entry], args=[token, str(self.lease_s), str(self.ttl_s), new_job_id()])
        match text(found[0]):
            case "claimed":
                return Claim(entry, token, text(found[1]), taken_over=bool(found[2]))
            case "busy":
                return InProgress(text(found[1]))
        return _completed(*map(text, found[1:]))

    def renew(self, claim: Claim) -> bool:
        """Keep a claim for another lease; False when it is another's by now."""
        return bool(self._renew(keys=[claim.entry], args=[claim.token, str(self.lease_s), str(self.ttl_s)]))

    def finish(self, claim: Claim, answer: StoredResponse, *, fingerprint: str, body_fingerprint: str) -> None:
        """Store what the client is told, for those who ask again."""
        fields = {
            "status": str(answer.status),
            "headers": json.dumps(dict(answer.headers)),
            "body": answer.body.decode(),
            "fingerprint": fingerprint,
            "request_print": body_fingerprint,
        }
        flat = [item for name, value in fields.items() for item in (name, value)]
        self._finish(keys=[claim.entry], args=[claim.token, str(self.ttl_s), *flat])

    def release(self, claim: Claim) -> None:
        """Give a claim up without an answer, so that a corrected retry is free to work."""
        self._release(keys=[claim.entry], args=[claim.token])

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
                log.warning("a claim was not renewed", exc_info=True)

    async def _released(self, claim: Claim) -> None:
        try:
            await run_in_threadpool(self.release, claim)
        except RedisError:
            log.warning("a claim was not given up: its lease will end", exc_info=True)


def entry_key(tenant: str, route: str, key: str) -> str:
    """The Redis key of an entry. Hashed, because what clients choose may be long or telling."""
    digest = hashlib.sha256("\n".join((tenant, route, key)).encode()).hexdigest()
    return f"apex:idempotency:{digest}"


def fingerprint(sha256: str, options: BaseModel) -> str:
    """What a request asks for: the bytes of its track and what its sender says about it."""
    # Defaults are left out, so that a new option does not change the print of old requests.
    said = options.model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps([sha256, said], sort_keys=True).encode()).hexdigest()


def _completed(status: str, headers: str, body: str, fingerprint: str, body_fingerprint: str) -> Completed:
    return Completed(StoredResponse(int(status), json.loads(headers), body.encode()), fingerprint, body_fingerprint)
