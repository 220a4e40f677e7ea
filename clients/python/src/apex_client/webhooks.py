"""Verify webhooks, which the service signs as Standard Webhooks defines it."""

from collections.abc import Mapping
from typing import cast

from standardwebhooks import Webhook, WebhookVerificationError

from apex_client.types import (
    BatchCompletedEvent,
    JobCanceledEvent,
    JobFailedEvent,
    JobSucceededEvent,
    WebhookTestEvent,
)

__all__ = ["WebhookEvent", "WebhookVerificationError", "verify_webhook"]


#: What a webhook tells: its `type` says what is in `data`. It may come more than once, with the same `webhook-id`.
WebhookEvent = JobSucceededEvent | JobFailedEvent | JobCanceledEvent | BatchCompletedEvent | WebhookTestEvent


def verify_webhook(body: bytes | str, headers: Mapping[str, str], *secrets: str) -> WebhookEvent:
    """The event in the exact bytes of a body, if one of the secrets signed it within the last five minutes.

    Raises WebhookVerificationError. Give two secrets while one replaces the other.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    refusal = WebhookVerificationError("no secret was given")
    for secret in secrets:
        try:
            return cast(WebhookEvent, Webhook(secret).verify(body, lower))
        except WebhookVerificationError as error:
            refusal = error
        except ValueError:  # no base64, no UTF-8 or no JSON, which a stranger may send
            refusal = WebhookVerificationError("the webhook cannot be read")
    raise refusal
