"""What workers publish about themselves. The HTTP front end has neither weights nor a decoder to look at."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from app.core import stored
from app.core.jobs.queue import DEVICE, HEARTBEAT_AT, MISSING_LAYERS, MODEL_VERSION
from app.core.json_types import Json
from app.core.lua.script import LuaScript
from app.core.redis.keys import RedisKeys


@dataclass(frozen=True)
class Published:
    """What a worker publishes: the model that it runs, and the layers that its decoder's sandbox cannot have."""

    model: Json
    missing_sandbox_layers: Sequence[str] = ()

    def worker_fields(self) -> dict[str, str]:
        """What is kept of it with the worker itself, beside what the worker that started last says for all."""
        of_model = {MODEL_VERSION: self.model.get("version"), DEVICE: self.model.get("device")}
        said = {name: str(value or "") for name, value in of_model.items()}
        return said | {MISSING_LAYERS: _json(list(self.missing_sandbox_layers))}


class WorkerInfo:
    """What the worker that started last published. Every method is blocking."""

    def __init__(self, redis: Redis, keys: RedisKeys) -> None:
        self.redis = redis
        self.keys = keys
        self._heartbeat = LuaScript(redis, "core/lua/heartbeat.lua")

    def publish(self, info: Published) -> None:
        """Publish what a worker that starts has to say."""
        self.publish_model(info.model)
        self.publish_missing_sandbox_layers(info.missing_sandbox_layers)

    def publish_model(self, info: dict[str, Any]) -> None:
        """Publish which model the workers run."""
        self.redis.set(self.keys.model, _json(info))

    def model(self) -> dict[str, Any] | None:
        """The model that was loaded last, None when no worker ever started."""
        found = stored.json_value(self.keys.model, stored.read(self.redis.get, self.keys.model))
        return found if isinstance(found, dict) else None

    def publish_missing_sandbox_layers(self, names: Iterable[str]) -> None:
        """Publish which layers of the decoder's sandbox this worker's machine cannot have."""
        self.redis.set(self.keys.missing_sandbox_layers, _json(list(names)))

    def heartbeat(
        self, rq_keys: Sequence[str], *, rq_fields: Mapping[str, str], ttl_s: int, info: Published | None
    ) -> None:
        """Note that a worker lives, by Redis's clock, and say anew what a Redis without its keys has forgotten.

        `rq_keys` are RQ's hash of the worker, and its sets of all workers and of those of the queue.
        """
        self._heartbeat(
            [*rq_keys, self.keys.model, self.keys.missing_sandbox_layers],
            fields=rq_fields,
            heartbeat_field=HEARTBEAT_AT,
            ttl_s=ttl_s,
            model=_json(info.model) if info else None,
            missing_layers=_json(list(info.missing_sandbox_layers)) if info else None,
        )


def _json(value: object) -> str:
    return json.dumps(value, allow_nan=False)
