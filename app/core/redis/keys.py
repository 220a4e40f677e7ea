"""Names of all Redis keys and channels of the service. RQ's own keys are named by RQ.

Names outlive a release: some are older than the terms used here.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

#: What is written to see that Redis takes writes goes away by itself after so long.
PROBE_TTL_S = 60


@dataclass(frozen=True)
class RedisKeys:
    """The names of one namespace; two namespaces have no name in common, with RQ's names neither."""

    namespace: str

    # Indexes of jobs.

    @property
    def unfinished(self) -> str:
        return self._key("jobs", "open")

    @property
    def waiting(self) -> str:
        return self._key("jobs", "waiting")

    @property
    def deadlines(self) -> str:
        return self._key("jobs", "deadlines")

    @property
    def running(self) -> str:
        return self._key("jobs", "running")

    @property
    def tenant_queues(self) -> str:
        return self._key("queue", "tenants")

    # Tracks that are to be fetched from a URL. `fetch.lua` makes further names with the prefix.

    @property
    def fetch_prefix(self) -> str:
        return self._key("fetch", "")

    @property
    def fetcher(self) -> str:
        """A sign of life of whoever fetches."""
        return self._key("fetcher")

    @property
    def unfetched(self) -> str:
        """Jobs whose track is to be fetched."""
        return f"{self.fetch_prefix}jobs"

    @property
    def deployment(self) -> str:
        """The id that the storage holds too."""
        return self._key("deployment")

    # What workers say of themselves.

    @property
    def model(self) -> str:
        return self._key("model")

    @property
    def missing_sandbox_layers(self) -> str:
        return self._key("missing_walls")

    @property
    def throughput(self) -> str:
        return self._key("rate")

    @property
    def write_probe(self) -> str:
        """What is written to see that Redis takes writes, and to wait for replicas: it says nothing."""
        return self._key("probe")

    @property
    def api_keys(self) -> str:
        return self._key("keys")

    @property
    def api_key_last_uses(self) -> str:
        return self._key("keys", "used")

    # Webhooks. What begins with `webhooks` is named by `app/core/webhooks/lua/outbox.lua`.

    @property
    def webhooks(self) -> str:
        """What the names of the outbox begin with."""
        return self._key("webhooks", "")

    @property
    def webhook_dispatchers(self) -> str:
        return f"{self.webhooks}dispatchers"

    @property
    def webhook_secrets(self) -> str:
        """The secrets of each tenant. Kept apart from records: no answer and no log shows what is in it."""
        return self._key("secrets")

    def webhook_event(self, event_id: str) -> str:
        """The hash of an event."""
        return f"{self.webhooks}event:{event_id}"

    @property
    def shared(self) -> Mapping[str, str]:
        """The types of the keys that all jobs share, but for the API keys: without theirs a service would be open."""
        return {
            self.unfinished: "zset",
            self.waiting: "zset",
            self.deadlines: "zset",
            self.running: "hash",
            self.tenant_queues: "hash",
            self.unfetched: "zset",
            f"{self.fetch_prefix}tenants": "zset",
            f"{self.fetch_prefix}running": "hash",
            f"{self.fetch_prefix}host_of": "hash",
            self.model: "string",
            self.missing_sandbox_layers: "string",
            self.throughput: "string",
            self.api_key_last_uses: "hash",
        }

    def record(self, job_id: str) -> str:
        """The hash that is a job's record."""
        return self._key("job", job_id)

    def events(self, job_id: str) -> str:
        """The stream of what happened to a job."""
        return self._key("events", job_id)

    def embedding(self, job_id: str) -> str:
        """The embedding of a job's track, where the job asks for it: apart from the record, which is read often."""
        return self._key("embedding", job_id)

    def tombstone(self, job_id: str) -> str:
        """When a deleted or expired job went away, and which tenant owned it."""
        return self._key("gone", job_id)

    def by_created(self, tenant: str) -> str:
        """A tenant's jobs by their time of creation."""
        return self._key("jobs", "of", tenant)

    def by_metadata(self, tenant: str, key: str, value: str) -> str:
        """A tenant's jobs with a value of metadata by their time of creation. Hashed: clients choose what is in it."""
        return self._key("jobs", "with", tenant, hashlib.sha256(f"{key}\n{value}".encode()).hexdigest()[:32])

    def in_flight(self, tenant: str) -> str:
        """A tenant's unfinished jobs."""
        return self._key("jobs", "held", tenant)

    def cached_result(self, tenant: str, sha256: str, model_version: str) -> str:
        """The id of a tenant's succeeded job with these bytes and this model."""
        return self._key("scored", tenant, sha256, model_version)

    def updates_channel(self, job_id: str) -> str:
        """The channel on which every change of a job or a batch is published; `*` is the pattern of all of them."""
        return self._key("moved", job_id)

    def batches(self, tenant: str) -> str:
        """A tenant's batches by their time of creation."""
        return self._key("batches", "of", tenant)

    def batch(self, tenant: str, batch_id: str) -> str:
        """A batch's record. The tenant is part of the name, so that another tenant's batch is not found."""
        return self._key("batch", tenant, batch_id)

    def batch_items(self, tenant: str, batch_id: str) -> str:
        """The list of what a batch holds."""
        return f"{self.batch(tenant, batch_id)}:items"

    def batch_unfinished(self, tenant: str, batch_id: str) -> str:
        """The set of a batch's unfinished jobs."""
        return f"{self.batch(tenant, batch_id)}:open"

    def batch_states(self, tenant: str, batch_id: str) -> str:
        """The sorted set of the states of a batch's jobs."""
        return f"{self.batch(tenant, batch_id)}:states"

    def of_batch(self, tenant: str, batch_id: str) -> list[str]:
        """All four of a batch, in the order of the scripts: record, items, unfinished jobs, states."""
        names = (self.batch, self.batch_items, self.batch_unfinished, self.batch_states)
        return [name(tenant, batch_id) for name in names]

    def idempotency(self, tenant: str, route: str, key: str) -> str:
        """An idempotency key's entry. Hashed, because what clients choose may be long or secret."""
        return self._key("idempotency", hashlib.sha256("\n".join((tenant, route, key)).encode()).hexdigest())

    def usage_tenants(self, day: str) -> str:
        """The set of the tenants whose jobs ended on a day, which is counted from 1970."""
        return self._key("usage", day)

    def usage(self, day: str, tenant: str) -> str:
        """The hash of what a tenant used on a day: a count for each API key and measure."""
        return f"{self.usage_tenants(day)}:{tenant}"

    def activity(self, interval: str) -> str:
        """The hash of how jobs of all tenants ended in a quarter of an hour, which is counted from 1970."""
        return self._key("activity", interval)

    def request_quota(self, key_id: str) -> str:
        """When an API key's requests will have drained."""
        return self._key("quota", "requests", key_id)

    def byte_quota(self, key_id: str) -> str:
        """When an API key's bytes will have drained."""
        return self._key("quota", "bytes", key_id)

    def _key(self, *parts: str) -> str:
        """A name with what precedes every key. No other code knows that part."""
        return f"{self.namespace}:{':'.join(parts)}"


def indexes(keys: RedisKeys, *, livemode: bool) -> RedisKeys:
    """The names of the indexes of live jobs, or of test jobs, which no worker and no reconciler looks at."""
    return keys if livemode else RedisKeys(f"{keys.namespace}:test")
