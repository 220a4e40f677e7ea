"""`apex keys`: make, list and revoke the API keys that a service keeps in its Redis, while it runs or not."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from redis import Redis
from redis.exceptions import RedisError

from app.api.auth.api_keys import ApiKey, KeyStore
from app.api.schemas.fields import timestamp
from app.cli.commands.settings import load_settings
from app.cli.embedded_redis import EmbeddedRedis, EmbeddedRedisError, running_url
from app.core.callers import Limits
from app.core.settings import ServiceSettings
from model.domain import ApexError

CONNECT_TIMEOUT_S = 5.0
COLUMNS = ("id", "tenant", "scopes", "created", "revoked", "name")


class NoRedis(ApexError):
    """The Redis that holds the keys cannot be reached; the text says which one was tried."""


def create(*, tenant: str, name: str, scopes: Iterable[str], limits: Limits) -> None:
    """Print a new key on stdout, and nothing else there; what it may do on stderr."""
    with key_store() as keys:
        key, secret = keys.create(tenant=tenant, name=name, scopes=scopes, limits=limits)
    typer.echo(secret)
    typer.echo(f"{_line(key)}. Only its hash is kept: this key is not shown again.", err=True)


def show() -> None:
    """Every key that was made, without its secret."""
    with key_store() as keys:
        found = keys.listed()
    typer.echo("\t".join(COLUMNS))
    for key in found:
        dates = (timestamp(key.created_at) or "", timestamp(key.revoked_at) or "")
        typer.echo("\t".join((key.id, key.tenant, ",".join(key.scopes), *dates, key.name)))


def revoke(key_id: str) -> None:
    """Close a key; the service refuses it from the next request on."""
    with key_store() as keys:
        key = keys.revoke(key_id)
    typer.echo(f"{_line(key)}. Revoked at {timestamp(key.revoked_at)}.", err=True)


@contextmanager
def key_store() -> Iterator[KeyStore]:
    """The keys of the Redis that was named, else of the private Redis in the data folder."""
    settings = load_settings(ServiceSettings)
    try:
        with _named_or_private(settings) as url, Redis.from_url(url, socket_timeout=CONNECT_TIMEOUT_S) as redis:
            yield KeyStore(redis)
    except (RedisError, EmbeddedRedisError) as error:
        raise NoRedis(f"the keys cannot be reached: {error}") from error


@contextmanager
def _named_or_private(settings: ServiceSettings) -> Iterator[str]:
    if "redis_url" in settings.model_fields_set:
        yield settings.redis_url
        return
    directory = settings.data_dir / "redis"
    if url := running_url(directory):
        yield url
        return
    with _started(directory) as redis:
        yield redis.url


@contextmanager
def _started(directory: Path) -> Iterator[EmbeddedRedis]:
    # A key written to a Redis that no service uses would open nothing: a folder is not made here.
    if not directory.is_dir():
        raise NoRedis(f"there is no service's Redis in {directory}: name its --data-dir, or a --redis-url")
    with EmbeddedRedis(directory) as redis:
        yield redis


def _line(key: ApiKey) -> str:
    return f"Key {key.id} of tenant {key.tenant}, scopes {','.join(key.scopes)}"
