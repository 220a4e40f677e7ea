"""Callers: which tenant sends a request, with which scopes and limits. Knows nothing of API keys."""

import re
from dataclasses import asdict, dataclass, field, replace

from model.domain import ApexError

#: What an API key may be allowed to do.
SCOPES = ("score:write", "jobs:read", "jobs:delete", "embeddings:read", "ops:read")
#: What a key may do unless it is made for more or less.
DEFAULT_SCOPES = ("score:write", "jobs:read", "jobs:delete")
#: Asking for embeddings, and reading them: tracks can be told apart by them, and models trained on them.
EMBEDDINGS_SCOPE = "embeddings:read"
#: Reading how the service as a whole is doing, the jobs of all tenants counted together.
OPS_SCOPE = "ops:read"
#: Those that allow a change.
CHANGING_SCOPES = frozenset({"score:write", "jobs:delete"})
#: The tenant that owns the jobs of a service without API keys. The stored name is older than the term.
ANONYMOUS_TENANT = "open"
#: What the name of a tenant's test data ends with. No name of a tenant has the slash.
_TEST_DATA = "/test"
_ACCOUNT = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def account_name(name: str) -> str:
    """The name of a tenant, as it is given to commands. Raises `ApexError` for one that no tenant can have."""
    if not _ACCOUNT.fullmatch(name):
        raise ApexError("a tenant's name is 1 to 64 letters, digits, '_', '.' and '-'")
    return name


def data_owner(account: str, *, livemode: bool) -> str:
    """The tenant that owns what a key of this account makes: for a test key it is another one, which owns test data.

    So whatever is kept of a tenant is kept apart for live and for test data.
    """
    return account if livemode else account + _TEST_DATA


def is_live(tenant: str) -> bool:
    """Whether a tenant owns live data."""
    return not tenant.endswith(_TEST_DATA)


def account_of(tenant: str) -> str:
    """The tenant's name as it was given to `apex keys`, for live and for test data."""
    return tenant.removesuffix(_TEST_DATA)


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
    """The sender of a request. On a service without API keys it is the anonymous tenant, which may do everything.

    `tenant` owns the data that the request is about: see `data_owner`.
    """

    tenant: str = ANONYMOUS_TENANT
    key_id: str | None = None
    scopes: frozenset[str] = frozenset(SCOPES)
    limits: Limits = field(default_factory=Limits)

    @property
    def livemode(self) -> bool:
        """Whether live data is meant, and not test data."""
        return is_live(self.tenant)
