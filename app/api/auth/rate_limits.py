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

from app.core.callers import Caller
from app.core.jobs.store import in_flight_key, text
from app.core.problems import Problem

MINUTE_S = 60
DAY_S = 24 * 60 * 60
#: How soon a client with too many unfinished jobs should look again; when one ends is not known.
IN_FLIGHT_RETRY_S = 5

# A meter is one number: the time at which it will be empty again. Each unit moves that time by window / limit.
# KEYS: requests, bytes, unfinished jobs. ARGV: for each of them, how much is taken and the limit; then whether to take
# it in any case.
# Returns the limits that are reached, the seconds until they are not, and for each limit what is left and, for the
# first two, the seconds until all of it is.
CONSUME = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local reached, retry_s, out = {}, 0, {}
local function meter(name, key, cost, limit, window_s)
  local empty_at = math.max(tonumber(redis.call('GET', key) or '0'), now)
  local per_unit = window_s / limit
  local after = math.max(empty_at + cost * per_unit, now)
  if cost > 0 and after - now > window_s + 0.001 then
    table.insert(reached, name)
    retry_s = math.max(retry_s, math.min(after - now - window_s, window_s))
  end
  return {key = key, before = empty_at, after = after, per_unit = per_unit, window_s = window_s, cost = cost}
end
local meters = {
  meter('burst', KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), MINUTE_S),
  meter('bytes', KEYS[2], tonumber(ARGV[3]), tonumber(ARGV[4]), DAY_S),
}
local jobs, max_jobs = redis.call('ZCARD', KEYS[3]), tonumber(ARGV[6])
if tonumber(ARGV[5]) > 0 and jobs + ARGV[5] > max_jobs then
  table.insert(reached, 'inflight')
  retry_s = math.max(retry_s, IN_FLIGHT_RETRY_S)
end
local taken = #reached == 0 or ARGV[7] == '1'
for _, m in ipairs(meters) do
  local at = taken and m.after or m.before
  if taken and m.cost ~= 0 then
    redis.call('SET', m.key, string.format('%.6f', at), 'PX', math.max(math.ceil((at - now) * 1000), 1))
  end
  table.insert(out, math.floor((m.window_s - (at - now)) / m.per_unit + 0.001))
  table.insert(out, math.ceil(at - now))
end
table.insert(out, max_jobs - jobs)
return {table.concat(reached, ','), math.ceil(retry_s), unpack(out)}
"""


def _with_numbers(script: str) -> str:
    numbers = {"MINUTE_S": MINUTE_S, "DAY_S": DAY_S, "IN_FLIGHT_RETRY_S": IN_FLIGHT_RETRY_S}
    for name, number in numbers.items():
        script = script.replace(name, str(number))
    return script


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
        self._take = redis.register_script(_with_numbers(CONSUME))

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
            f"apex:quota:requests:{caller.key_id}",
            f"apex:quota:bytes:{caller.key_id}",
            in_flight_key(caller.tenant),
        ]
        numbers = (requests, limits.requests_per_minute, n_bytes, limits.bytes_per_day, jobs, limits.jobs_in_flight)
        return _status(caller, self._take(keys=keys, args=[*map(str, numbers), str(int(force))]))


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
