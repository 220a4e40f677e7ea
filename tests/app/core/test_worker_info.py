"""What workers publish about themselves."""

from redis import Redis

from app.core.worker_info import WorkerInfo
from tests.conftest import KEYS


def test_the_model_is_published(redis: Redis) -> None:
    info = WorkerInfo(redis, KEYS)
    assert info.model() is None
    info.publish_model({"name": "apex"})
    assert info.model() == {"name": "apex"}
