"""A webhook as the service signs it, for the tests of both official clients."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from standardwebhooks import Webhook

from app.api.openapi.examples import JOBS

EXAMPLES: dict[str, Any] = JOBS
QUEUED, SUCCEEDED, FAILED = (EXAMPLES[name]["value"] for name in ("queued", "succeeded", "failed"))
SECRETS = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]
EVENT = json.dumps({"type": "job.succeeded", "timestamp": "2026-11-22T15:08:13Z", "data": SUCCEEDED})


def signed(secret: str, *, age_s: float = 0) -> dict[str, str]:
    """The headers of a webhook that is so old."""
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    signature = Webhook(secret).sign("evt_1", at, EVENT)
    return {"Webhook-Id": "evt_1", "Webhook-Timestamp": str(int(at.timestamp())), "Webhook-Signature": signature}
