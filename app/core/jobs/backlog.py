"""The backlog: how much audio waits, of which tenants, and how much may."""

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate


@dataclass(frozen=True)
class Backlog:
    """How many jobs wait, and their estimated seconds of audio: of all tenants, and of each."""

    jobs: int = 0
    audio_s: float = 0.0
    tenant_audio_s: Mapping[str, float] = field(default_factory=dict)

    def audio_s_before(self, tenant: str, tenant_audio_s: float) -> float:
        """Seconds of audio that run before a tenant's job, when each tenant may run so many: few have as many."""
        sorted_s, sums_s = self._sorted_s, self._sums_s
        n_shorter = bisect(sorted_s, tenant_audio_s)
        all_s = sums_s[n_shorter] + (len(sorted_s) - n_shorter) * tenant_audio_s
        return all_s + tenant_audio_s - min(self.tenant_audio_s.get(tenant, 0.0), tenant_audio_s)

    def audio_s_before_next(self, tenant: str) -> float:
        """The same for the next job that a tenant sends."""
        return self.audio_s_before(tenant, self.tenant_audio_s.get(tenant, 0.0))

    @cached_property
    def _sorted_s(self) -> Sequence[float]:
        return sorted(self.tenant_audio_s.values())

    @cached_property
    def _sums_s(self) -> Sequence[float]:
        """The sum of the first n of `_sorted_s`, for each n: there may be many jobs to tell, and many tenants."""
        return list(accumulate(self._sorted_s, initial=0.0))


@dataclass(frozen=True)
class BacklogLimits:
    """How much audio may wait.

    `max_audio_s` is of all tenants. One that is alone may take `tenant_share` of it. Any tenant may have as much
    waiting as is still free, times share / (1 - share): for a share of a half, two tenants come to a third each, ten to
    an eleventh. So there is always room for one more. A share of 1 is no limit.
    """

    max_audio_s: float
    tenant_share: float = 1.0

    def total_excess_s(self, backlog: Backlog) -> float:
        """Seconds that wait beyond the limit of all tenants; negative while there is room."""
        return backlog.audio_s - self.max_audio_s

    def tenant_excess_s(self, backlog: Backlog, tenant: str) -> float:
        """Seconds of a tenant that must run before there is room for it; negative while there is."""
        own_s = backlog.tenant_audio_s.get(tenant, 0.0)
        return own_s * (1 - self.tenant_share) + self.total_excess_s(backlog) * self.tenant_share
