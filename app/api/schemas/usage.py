"""Usage: the limits of a key, and what its tenant used by day."""

from typing import Literal

from pydantic import BaseModel, Field

from app.api.schemas.fields import LIVEMODE


class LimitLeft(BaseModel):
    """One limit of the key, as `RateLimit` and `RateLimit-Policy` have it."""

    policy: str = Field(
        description="`burst` in requests, `inflight` in unfinished jobs of the tenant, `bytes` in uploaded bytes.",
        examples=["burst"],
    )
    limit: int
    remaining: int
    reset_s: int | None = Field(description="In how many seconds all of it is left again, where that is known.")
    window_s: int | None = Field(description="Seconds in which the limit may be used once; null for `inflight`.")


class UsageCounts(BaseModel):
    """What was used. A job counts once, at its end."""

    jobs: int = Field(description="Jobs that ended.")
    succeeded: int
    failed: int
    canceled: int = Field(description="Canceled jobs, and those that were deleted before their end.")
    audio_seconds: float = Field(description="Audio that was scored. A track whose scores were known adds nothing.")
    bytes: int = Field(description="Size of the files.")


class KeyUsage(UsageCounts):
    """What one key used on a day."""

    key_id: str | None = Field(description="Null for jobs that were made without a key.")


class UsageDay(UsageCounts):
    """What the tenant used on a day, and how it divides among its keys."""

    date: str = Field(description="In UTC.", examples=["2026-11-27"], json_schema_extra={"format": "date"})
    keys: list[KeyUsage]


class Usage(BaseModel):
    """The limits of the key, and what its tenant used by day, the newest day first."""

    object: Literal["usage"] = "usage"
    livemode: bool = LIVEMODE
    tenant: str = Field(examples=["acme"])
    key_id: str | None = Field(description="The key that asks; null without one.")
    limits: list[LimitLeft] = Field(description="Empty on a service without keys.")
    days: list[UsageDay] = Field(description="Days on which no job ended are left out.")
