"""The secrets of webhooks that `apex webhooks secret` works on."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.cli.serving.service_redis import NoRedis, service_redis
from app.core.redis.replicas import NotReplicated, Replicas
from app.core.settings import ServiceSettings, load_settings
from app.core.webhooks.secrets import WebhookSecrets


@contextmanager
def secret_store() -> Iterator[WebhookSecrets]:
    """The secrets of the Redis that was named, else of the private Redis in the data folder."""
    settings = load_settings(ServiceSettings)
    keys = settings.redis_keys
    try:
        with service_redis(settings) as redis:
            yield WebhookSecrets(redis, keys, replicas=Replicas(redis, keys, needed=settings.redis_min_replicas))
    except NotReplicated as error:
        raise NoRedis("it was done, but too few replicas of Redis confirmed it: rotate the secret") from error
