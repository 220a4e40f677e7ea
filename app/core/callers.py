"""Callers: who a request is from, with which scopes and limits. Knows nothing of keys."""

from dataclasses import asdict, dataclass, field, replace

#: What an API key may be allowed to do.
SCOPES = ("score:write", "jobs:read", "jobs:delete", "ops:read")
#: Who owns the jobs of a service without API keys.
ANONYMOUS_TENANT = "open"


@dataclass(frozen=True)
class Limits:
    """What one key may use; None is the service's default for it, which may be no limit."""

    requests_per_minute: int | None = None
    jobs_in_flight: int | None = None
    bytes_per_day: int | None = None

    def with_defaults(self, default: "Limits") -> "Limits":
        """These limits, and the default's where there is none."""
        return replace(default, **{name: value for name, value in asdict(self).items() if value is not None})


@dataclass(frozen=True)
class Caller:
    """Who a request is from. Without a key, on a service without keys, it is the open tenant and may do everything."""

    tenant: str = ANONYMOUS_TENANT
    key_id: str | None = None
    scopes: frozenset[str] = frozenset(SCOPES)
    limits: Limits = field(default_factory=Limits)
