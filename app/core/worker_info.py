"""What workers publish about themselves. The HTTP front end has neither weights nor a decoder to look at."""

import json
from collections.abc import Iterable
from typing import Any

from redis import Redis

from app.core import redis_keys, stored


class WorkerInfo:
    """What the worker that started last published. Every method is blocking."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    def publish_model(self, info: dict[str, Any]) -> None:
        """Publish which model the workers run."""
        self.redis.set(redis_keys.MODEL, json.dumps(info, allow_nan=False))

    def model(self) -> dict[str, Any] | None:
        """The model that was loaded last, None when no worker ever started."""
        found = stored.json_value(redis_keys.MODEL, stored.read(self.redis.get, redis_keys.MODEL))
        return found if isinstance(found, dict) else None

    def publish_missing_sandbox_layers(self, names: Iterable[str]) -> None:
        """Publish which layers of the decoder's sandbox this worker's machine cannot have."""
        self.redis.set(redis_keys.MISSING_SANDBOX_LAYERS, json.dumps(list(names)))
