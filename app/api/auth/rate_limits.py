"""Rate limits: what one API key may use, counted in Redis, and the headers that show what is left.

Requests and bytes drain steadily instead of by fixed windows (the generic cell rate algorithm), so no burst of two
windows' worth fits between two windows, and `Retry-After` is exact. All limits are checked in one atomic step, which is
why this is a script: the `limits` package checks one limit at a time, in several round trips, by each process's own
clock, and requires redis < 8.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis

from app.core.callers import Caller
from app.core.lua.script import LuaScript
from app.core.problems import Problem
from app.core.redis.client import text
from app.core.redis.keys import RedisKeys

MINUTE_S = 60
DAY_S = 24 * 60 * 60
#: When a client with too many unfinished jobs should try again: nothing says when one of them will end.
IN_FLIGHT_RETRY_S = 5
#: The last use of a key is written this often at most; for `apex keys list`.
LAST_USE_EVERY_S = 60


@dataclass(frozen=True)
class LimitStatus:
    """What is left of one limit, and in how many seconds it is full again; None if that does not depend on time."""

    policy: str
    limit: int
    remaining: int
    reset_s: int | None = None


#: Seconds in which a limit may be used once, where it depends on time.
WINDOWS_S: Mapping[str, int] = {"burst": MINUTE_S, "bytes": DAY_S}
#: Parameters of each policy in `RateLimit-Policy`, after its name and its limit.
POLICIES: Mapping[str, str] = {
    "burst": f";w={MINUTE_S}",
    "inflight": ';qu="concurrent-requests"',
    "bytes": f';w={DAY_S};qu="content-bytes"',
}


@dataclass(frozen=True)
class RateLimitStatus:
    """What is left of each limit of a key, and which are exceeded."""

    exceeded: tuple[str, ...]
    retry_after_s: int
    limits: tuple[LimitStatus, ...]

    def headers(self) -> dict[str, str]:
        """`RateLimit-Policy` and `RateLimit`."""
        policies = (f'"{each.policy}";q={each.limit}{POLICIES[each.policy]}' for each in self.limits)
        return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(map(_header_item, self.limits))}

    def raise_if_exceeded(self) -> None:
        """Raise `quota_exceeded` when a limit is reached."""
        if self.exceeded:
            raise quota_exceeded(*self.exceeded, retry_after_s=self.retry_after_s)


class Quotas:
    """Counts what API keys use, and notes when each was last used. A caller without a key has no limits. Blocking."""

    def __init__(self, redis: Redis, keys: RedisKeys) -> None:
        self.keys = keys
        self._consume = LuaScript(redis, "api/auth/lua/consume.lua")

    def consume(
        self, caller: Caller, *, requests: int = 0, n_bytes: int = 0, jobs: int = 0, force: bool = False
    ) -> RateLimitStatus | None:
        """Take this much of each limit, or nothing when one would be exceeded; None for a caller without limits.

        `jobs` is only checked, because jobs are counted by their records. With `force` limits may be exceeded. Negative
        numbers give back.
        """
        if caller.key_id is None:
            return None
        limits = caller.limits
        keys = [
            self.keys.request_quota(caller.key_id),
            self.keys.byte_quota(caller.key_id),
            self.keys.in_flight(caller.tenant),
            self.keys.api_key_last_uses,
        ]
        reply = self._consume(
            keys,
            burst={"cost": requests, "limit": limits.requests_per_minute, "window_s": MINUTE_S},
            bytes={"cost": n_bytes, "limit": limits.bytes_per_day, "window_s": DAY_S},
            inflight={"cost": jobs, "limit": limits.jobs_in_flight, "retry_s": IN_FLIGHT_RETRY_S},
            force=force,
            use={"key_id": caller.key_id, "every_s": LAST_USE_EVERY_S} if requests else None,
        )
        return _status(caller, reply)


def quota_exceeded(*policies: str, retry_after_s: int = IN_FLIGHT_RETRY_S) -> Problem:
    """The problem for a caller that has reached the limits of these names."""
    headers = {"Retry-After": str(max(retry_after_s, 1))}
    return Problem("quota_exceeded", headers=headers, violated_policies=list(policies))


def _status(caller: Caller, reply: list[Any]) -> RateLimitStatus:
    exceeded, *numbers = reply
    retry_after_s, requests, requests_reset_s, n_bytes, bytes_reset_s, jobs = map(int, numbers)
    limits = caller.limits
    left = (
        LimitStatus("burst", limits.requests_per_minute or 0, max(requests, 0), requests_reset_s),
        LimitStatus("inflight", limits.jobs_in_flight or 0, max(jobs, 0)),
        LimitStatus("bytes", limits.bytes_per_day or 0, max(n_bytes, 0), bytes_reset_s),
    )
    return RateLimitStatus(tuple(filter(None, text(exceeded).split(","))), retry_after_s, left)


def _header_item(each: LimitStatus) -> str:
    reset = "" if each.reset_s is None else f";t={each.reset_s}"
    return f'"{each.policy}";r={each.remaining}{reset}'
