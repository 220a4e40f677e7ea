"""Quotas: what one API key may use, counted in Redis, and the headers that tell a client what is left.

Requests and bytes drain steadily instead of by fixed windows (the generic cell rate algorithm), so no burst of two
windows' worth fits between two windows, and `Retry-After` is exact. All limits are looked at in one atomic step,
which is why this is a script: the `limits` package looks at one limit at a time, in several round trips, by each
process's own clock, and asks for redis < 8.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis

from app.core import redis_keys
from app.core.callers import Caller
from app.core.lua.script import LuaScript
from app.core.problems import Problem
from app.core.redis_client import text

MINUTE_S = 60
DAY_S = 24 * 60 * 60
#: How soon a client with too many unfinished jobs should look again; when one ends is not known.
IN_FLIGHT_RETRY_S = 5


@dataclass(frozen=True)
class LimitStatus:
    """What is left of one limit, and in how many seconds all of it is left again, where time alone decides."""

    policy: str
    limit: int
    remaining: int
    reset_s: int | None = None


#: Each policy after its name and its limit, as `RateLimit-Policy` says it.
POLICIES: Mapping[str, str] = {
    "burst": f";w={MINUTE_S}",
    "inflight": ';qu="concurrent-requests"',
    "bytes": f';w={DAY_S};qu="content-bytes"',
}


@dataclass(frozen=True)
class RateLimitStatus:
    """Where a key stands with each of its limits."""

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
    """Counts what keys use. A caller without a key has no limits. Blocking."""

    def __init__(self, redis: Redis) -> None:
        self._consume = LuaScript(redis, "api/auth/lua/consume.lua")

    def consume(
        self, caller: Caller, *, requests: int = 0, n_bytes: int = 0, jobs: int = 0, force: bool = False
    ) -> RateLimitStatus | None:
        """Take so much of each limit, or nothing when one of them is reached; None for a caller without limits.

        `jobs` is only looked at, because jobs count themselves. With `force` a limit may be passed, and a negative
        number gives back.
        """
        if caller.key_id is None:
            return None
        limits = caller.limits
        keys = [
            redis_keys.request_quota(caller.key_id),
            redis_keys.byte_quota(caller.key_id),
            redis_keys.in_flight(caller.tenant),
        ]
        found = self._consume(
            keys,
            burst={"cost": requests, "limit": limits.requests_per_minute, "window_s": MINUTE_S},
            bytes={"cost": n_bytes, "limit": limits.bytes_per_day, "window_s": DAY_S},
            inflight={"cost": jobs, "limit": limits.jobs_in_flight, "retry_s": IN_FLIGHT_RETRY_S},
            force=force,
        )
        return _status(caller, found)


def quota_exceeded(*policies: str, retry_after_s: int = IN_FLIGHT_RETRY_S) -> Problem:
    """The refusal of a caller that has reached limits of these names."""
    headers = {"Retry-After": str(max(retry_after_s, 1))}
    return Problem("quota_exceeded", headers=headers, violated_policies=list(policies))


def _status(caller: Caller, found: list[Any]) -> RateLimitStatus:
    reached, *numbers = found
    retry_after_s, requests, requests_reset_s, n_bytes, bytes_reset_s, jobs = map(int, numbers)
    limits = caller.limits
    left = (
        LimitStatus("burst", limits.requests_per_minute or 0, max(requests, 0), requests_reset_s),
        LimitStatus("inflight", limits.jobs_in_flight or 0, max(jobs, 0)),
        LimitStatus("bytes", limits.bytes_per_day or 0, max(n_bytes, 0), bytes_reset_s),
    )
    return RateLimitStatus(tuple(filter(None, text(reached).split(","))), retry_after_s, left)


def _header_item(each: LimitStatus) -> str:
    reset = "" if each.reset_s is None else f";t={each.reset_s}"
    return f'"{each.policy}";r={each.remaining}{reset}'
