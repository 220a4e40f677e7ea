"""Where webhooks may go: checked when a URL is given, and again by the process that calls it."""

from dataclasses import dataclass

from app.core.egress_rules import EgressForbidden, EgressRules
from app.core.problems import Problem
from app.core.webhooks.secrets import WebhookSecrets

NONE_ALLOWED = "This server sends no webhooks: its operator has allowed no host."


@dataclass(frozen=True)
class WebhookTargets:
    """The rules for URLs of webhooks, and the secrets without which none is sent."""

    rules: EgressRules
    secrets: WebhookSecrets

    def check(self, url: str | None, tenant: str) -> None:
        """Raise `webhook_forbidden` for a URL that is not called, `webhook_secret_missing` without a secret.

        Nothing is resolved. Asks Redis only if there is a URL. Blocking.
        """
        if url is None:
            return
        if not self.rules.hosts:
            raise Problem("webhook_forbidden", NONE_ALLOWED)
        try:
            self.rules.check_url(url)
        except EgressForbidden as error:
            raise Problem("webhook_forbidden", str(error)) from None
        if not self.secrets.exist(tenant):
            raise Problem("webhook_secret_missing")
