"""Setbacks: what an error of a fetch means for its job."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from app.core.egress_rules import EgressForbidden
from app.core.problems import Problem
from app.egress.download import UnexpectedStatus
from app.egress.retry_after import retry_after_s

#: A host may ask for a longer pause, up to this.
MAX_PAUSE_S = 600.0
#: After a fault that is not the source's.
OWN_FAULT_PAUSE_S = 10.0
JITTER = 0.2

#: With these a host says that a later try may do.
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_OWN_FAULTS = frozenset({"storage_full", "storage_unavailable"})

_UNREACHABLE: tuple[tuple[type[Exception], str], ...] = (
    (httpx.ConnectTimeout, "Its host did not answer in time."),
    (httpx.ConnectError, "Its host was not found, refused the connection, or has no valid certificate."),
    (httpx.TimeoutException, "Its host stopped sending."),
    (TimeoutError, "It took longer than an upload may take."),
    (httpx.TransportError, "Its host broke the connection off, or does not speak HTTP."),
)


@dataclass(frozen=True)
class Setback:
    """What ended a fetch.

    problem : what the job fails with, if there is no further fetch
    is_final : whether a further fetch would be of no use
    counted : whether the fetch counts as one of those that a job has
    pause_s : the least time before the next
    """

    problem: Problem
    is_final: bool = False
    counted: bool = True
    pause_s: float = 0.0


def setback(error: Exception) -> Setback:
    """The setback that an error is; `internal_error` for one that nobody expects."""
    match error:
        case EgressForbidden():
            return Setback(Problem("url_forbidden", str(error)), is_final=True)
        case UnexpectedStatus():
            return _status(error)
        case Problem() if error.kind.code in _OWN_FAULTS:
            return Setback(error, counted=False, pause_s=OWN_FAULT_PAUSE_S)
        case Problem() if error.kind.code == "payload_too_large":
            return Setback(Problem("url_too_large", **error.extensions), is_final=True)
        case Problem():
            return Setback(error, is_final=True)
    detail = next((detail for kind, detail in _UNREACHABLE if isinstance(error, kind)), None)
    return Setback(Problem("url_unreachable", detail) if detail else Problem("internal_error"))


def pause_s(pauses_s: Sequence[float], n_fetches: int, back: Setback) -> float:
    """How long to wait after the last of so many fetches that count, of as many as there are pauses and one more."""
    least_s = max(back.pause_s, pauses_s[min(max(n_fetches, 1), len(pauses_s)) - 1] if back.counted else 0.0)
    return least_s * random.uniform(1.0, 1.0 + JITTER)  # noqa: S311  (spreads tries, hides nothing)


def _status(error: UnexpectedStatus) -> Setback:
    problem = Problem("url_status", f"The host answered with {error.status}.", status_received=error.status)
    return Setback(
        problem,
        is_final=error.status not in _TRANSIENT,
        pause_s=min(retry_after_s(error.retry_after) or 0.0, MAX_PAUSE_S),
    )
