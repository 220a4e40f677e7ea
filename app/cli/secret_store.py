"""The secrets of webhooks that `apex webhooks secret` works on."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.cli.serving.service_redis import service_replicas
from app.core.settings import ServiceSettings, load_settings
from app.core.webhooks.secrets import WebhookSecrets


@contextmanager
def secret_store() -> Iterator[WebhookSecrets]:
    """The secrets of the Redis that was named, else of the private Redis in the data folder."""
    with service_replicas(load_settings(ServiceSettings), remedy="rotate the secret") as replicas:
        yield WebhookSecrets(replicas.redis, replicas.keys, replicas=replicas)
