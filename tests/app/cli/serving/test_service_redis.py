"""A change by a command is confirmed by as many replicas as one of the service."""

from collections.abc import Callable

import pytest

from app.cli.key_store import key_store
from app.cli.secret_store import secret_store
from app.cli.serving.service_redis import NoRedis


def create_key() -> None:
    with key_store() as keys:
        keys.create(tenant="acme", name="one")


def create_secret() -> None:
    with secret_store() as secrets:
        secrets.create("acme")


@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize(("change", "remedy"), [(create_key, "do it again"), (create_secret, "rotate the secret")])
def test_who_changes_what_no_replica_confirms_is_told_what_to_do(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, change: Callable[[], None], remedy: str
) -> None:
    monkeypatch.setenv("APEX_REDIS_URL", redis_url)
    monkeypatch.setenv("APEX_REDIS_MIN_REPLICAS", "1")
    with pytest.raises(NoRedis, match=f"it was done, but too few replicas of Redis confirmed it: {remedy}$"):
        change()
