"""What workers publish about themselves."""

from redis import Redis

from app.core.worker_info import Published, WorkerInfo
from tests.conftest import KEYS


def test_the_model_is_published(redis: Redis) -> None:
    info = WorkerInfo(redis, KEYS)
    assert info.model() is None
    info.publish_model({"name": "apex"})
    assert info.model() == {"name": "apex"}


def test_a_worker_says_which_model_it_runs_on_which_device() -> None:
    fields = Published({"version": "apex-1.0.0", "device": "cuda:0", "name": "apex"}, ["landlock"]).worker_fields()
    assert fields == {"model_version": "apex-1.0.0", "device": "cuda:0", "missing_layers": '["landlock"]'}
