"""Callers: which tenant sends a request, with which scopes and limits. Knows nothing of API keys."""

from dataclasses import asdict, dataclass, field, replace

#: What an API key may be allowed to do.
SCOPES = ("score:write", "jobs:read", "jobs:delete")
#: What keys could be given before, too. It allows nothing, and is still taken where keys are made or read.
FORMER_SCOPES = ("ops:read",)
#: The tenant that owns the jobs of a service without API keys. The stored name is older than the term.
ANONYMOUS_TENANT = "open"


@dataclass(frozen=True)
class Limits:
    """What one API key may use; None stands for the service's default."""

    requests_per_minute: int | None = None
    jobs_in_flight: int | None = None
    bytes_per_day: int | None = None

    def with_defaults(self, default: "Limits") -> "Limits":
        """These limits, and the default's where there is none."""
        return replace(default, **{name: value for name, value in asdict(self).items() if value is not None})


@dataclass(frozen=True)
class Caller:
    """The sender of a request. On a service without API keys it is the anonymous tenant, which may do everything."""

    tenant: str = ANONYMOUS_TENANT
    key_id: str | None = None
    scopes: frozenset[str] = frozenset(SCOPES)
    limits: Limits = field(default_factory=Limits)
