"""`GET /usage`: the limits of a key with what is left of them, and what its tenant used by day."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from app.api.auth.authentication import RequireScope
from app.api.auth.rate_limits import WINDOWS_S, RateLimitStatus
from app.api.dependencies import ServicesDep
from app.api.openapi.components import headers, problems
from app.api.request_context import RequestContext
from app.api.schemas.usage import KeyUsage, LimitLeft, Usage, UsageDay
from app.core.callers import Caller, account_of
from app.core.json_types import Json
from app.core.usage import MAX_DAYS, Counts, DailyUsage

router = APIRouter(tags=["operations"])


@router.get(
    "/usage",
    responses={
        200: {"headers": headers("Cache-Control")},
        **problems("unauthorized", "cross_site_request", "validation_error", "redis_unavailable"),
    },
)
def get_usage(
    request: Request,
    response: Response,
    services: ServicesDep,
    caller: Annotated[Caller, Depends(RequireScope())],
    days: Annotated[int, Query(description=f"Of how many days, today among them; taken as 1 to {MAX_DAYS}.")] = 30,
) -> Usage:
    """Read the limits of the key, and what it and the other keys of its tenant used by day.

    A key reads the usage of data of its own kind: a test key that of test data.
    """
    response.headers["Cache-Control"] = "no-store"
    return Usage(
        livemode=caller.livemode,
        tenant=account_of(caller.tenant),
        key_id=caller.key_id,
        limits=_limits(RequestContext.of(request).rate_limits),
        days=[_day(usage) for usage in services.usage.of_tenant(caller.tenant, days=days)],
    )


def _limits(status: RateLimitStatus | None) -> list[LimitLeft]:
    return [
        LimitLeft(
            policy=each.policy,
            limit=each.limit,
            remaining=each.remaining,
            reset_s=each.reset_s,
            window_s=WINDOWS_S.get(each.policy),
        )
        for each in (status.limits if status else ())
    ]


def _day(usage: DailyUsage) -> UsageDay:
    keys = [KeyUsage(key_id=key_id, **_shown(counts)) for key_id, counts in usage.by_key.items()]
    return UsageDay(date=usage.day.isoformat(), keys=keys, **_shown(Counts.total(usage.by_key.values())))


def _shown(counts: Counts) -> Json:
    shown = {name: getattr(counts, name) for name in ("jobs", "succeeded", "failed", "canceled", "bytes")}
    return {**shown, "audio_seconds": counts.audio_ms / 1000}
