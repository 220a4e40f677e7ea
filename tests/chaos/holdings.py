"""What a service holds, read past its API: job records, queues, audio. And what of it should not be there any more."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from app.core.callers import ANONYMOUS_TENANT
from app.core.jobs.queue import ScoreQueue
from app.core.jobs.state_machine import JobStateMachine
from app.core.jobs.unfinished import UnfinishedJobs
from app.core.json_types import Json
from app.core.redis.client import text
from app.core.settings import ServiceSettings
from app.core.storage.opening import open_storage
from tests.chaos.clients import Clients
from tests.conftest import audio_files
from worker.reconciler import Reconciler


@dataclass(frozen=True)
class Holdings:
    """What one tenant of the service has there that has these settings."""

    redis: Redis
    settings: ServiceSettings
    tenant: str = ANONYMOUS_TENANT

    def sweep(self) -> None:
        """Do now what the service does in an hour: delete the uploads that a killed front end left unfinished."""
        queue = ScoreQueue(self.redis, name=self.settings.rq_queue_name)
        Reconciler(
            machine=JobStateMachine(self.redis, self.settings.redis_keys, queue=queue, result_ttl_s=60),
            storage=open_storage(self.settings),
            max_attempts=self.settings.max_attempts,
            orphan_grace_s=0.0,
        ).run()

    def ledger(self, clients: Clients) -> dict[str, Json]:
        """Every job that the service holds of the tenant, as its API shows it."""
        record = self.settings.redis_keys.record
        keys = [key for key in self.redis.scan_iter(record("*"), count=1000) if self._owner(key) == self.tenant]
        ids = [key.decode().removeprefix(record("")) for key in keys]
        return {job_id: clients.insist("GET", f"/jobs/{job_id}").json() for job_id in ids}

    def residue(self) -> dict[str, list[str]]:
        """The names of what should not be there when every job is over, by where they are."""
        queue = ScoreQueue(self.redis, name=self.settings.rq_queue_name).rq
        held: dict[str, Any] = {
            "queue": self.redis.lrange(queue.key, 0, -1),
            "intermediate": self.redis.lrange(queue.intermediate_queue_key, 0, -1),
            "wip": self.redis.zrange(queue.started_job_registry.key, 0, -1),
            "rq jobs": self.redis.keys("rq:job:*"),
        }
        return {
            "open": UnfinishedJobs(self.redis, self.settings.redis_keys).ids(),
            **{name: list(map(text, members)) for name, members in held.items()},
            "audio": self._audio(),
            "scratch": file_names(self.settings.scratch_dir),
        }

    def _audio(self) -> list[str]:
        folder = self.settings.storage_location.folder
        return (
            [path.name for path in audio_files(folder)]
            if folder
            else list(open_storage(self.settings).orphans(older_than_s=0.0))
        )

    def _owner(self, key: bytes) -> str:
        return str(json.loads(self.redis.hget(key, "tenant") or "null"))


def file_names(directory: Path) -> list[str]:
    return [path.name for path in directory.rglob("*") if path.is_file()]
