"""What can go wrong, by what a caller can do about it."""

from typing import Any

import httpx

from apex_client.types import Job

#: Statuses that pass, where an answer is not the service's own: a proxy's, say.
PASSING = (429, 502, 503, 504)


class ApexError(Exception):
    """Base of every error of this package."""


class ConnectionFailed(ApexError):
    """No answer came, after every retry. The request may have been carried out: repeat it with its idempotency key."""


class ApiError(ApexError):
    """The service refused the request. Decide by `code`, whose meaning never changes; '' for an answer of a proxy.

    `problem` is the whole RFC 9457 object, `retry_after_s` what the service asks to wait for.
    """

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.problem: dict[str, Any] = _problem(response)
        self.code: str = self.problem.get("code", "")
        self.retryable: bool = self.problem.get("retryable", self.status in PASSING)
        self.request_id = response.headers.get("x-request-id")
        self.retry_after_s = retry_after_s(response)
        super().__init__(f"{self.status} {self.code}: {self.problem.get('detail') or response.reason_phrase}")


class JobFailed(ApexError):
    """The job failed or was canceled; `job["error"]` says why it failed."""

    def __init__(self, job: Job) -> None:
        self.job = job
        error = job["error"]
        super().__init__(
            f"{job['id']}: {error['code']}: {error['detail']}" if error else f"{job['id']}: {job['status']}"
        )


class WaitTimeout(ApexError, TimeoutError):
    """The job was not over in time. It goes on: wait for it again, or cancel it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__(f"{job['id']} is {job['status']}")


def retry_after_s(response: httpx.Response) -> float | None:
    """The seconds in `Retry-After`, which the service gives as a number."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else None


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
