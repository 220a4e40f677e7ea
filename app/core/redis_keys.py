"""Names of all Redis keys and channels of the service. RQ's own keys are named by RQ.

Names outlive a release: some are older than the terms used here.
"""

import hashlib


def _key(*parts: str) -> str:
    """A name with what precedes every key. No other code knows that part."""
    return ":".join(("apex", *parts))


# Indexes of jobs.
UNFINISHED = _key("jobs", "open")
WAITING = _key("jobs", "waiting")
DEADLINES = _key("jobs", "deadlines")
RUNNING = _key("jobs", "running")
TENANT_QUEUES = _key("queue", "tenants")

# What workers say of themselves.
MODEL = _key("model")
MISSING_SANDBOX_LAYERS = _key("missing_walls")
THROUGHPUT = _key("rate")

# What a check of readiness writes.
WRITE_PROBE = _key("probe")

API_KEYS = _key("keys")
API_KEY_LAST_USES = _key("keys", "used")

#: The types of the keys that all jobs share, but for the API keys: without theirs a service would be open.
SHARED_KEYS = {
    UNFINISHED: "zset",
    WAITING: "zset",
    DEADLINES: "zset",
    RUNNING: "hash",
    TENANT_QUEUES: "hash",
    MODEL: "string",
    MISSING_SANDBOX_LAYERS: "string",
    THROUGHPUT: "string",
    API_KEY_LAST_USES: "hash",
}


def record(job_id: str) -> str:
    """The hash that is a job's record."""
    return _key("job", job_id)


def events(job_id: str) -> str:
    """The stream of what happened to a job."""
    return _key("events", job_id)


def tombstone(job_id: str) -> str:
    """When a deleted or expired job went away, and which tenant owned it."""
    return _key("gone", job_id)


def by_created(tenant: str) -> str:
    """A tenant's jobs by their time of creation."""
    return _key("jobs", "of", tenant)


def in_flight(tenant: str) -> str:
    """A tenant's unfinished jobs."""
    return _key("jobs", "held", tenant)


def cached_result(tenant: str, sha256: str, model_version: str) -> str:
    """The id of a tenant's succeeded job with these bytes and this model."""
    return _key("scored", tenant, sha256, model_version)


def updates_channel(job_id: str) -> str:
    """The channel on which every change of a job is published; `*` is the pattern of all of them."""
    return _key("moved", job_id)


def batch(tenant: str, batch_id: str) -> str:
    """A batch's record. The tenant is part of the name, so that another tenant's batch is not found."""
    return _key("batch", tenant, batch_id)


def batch_items(tenant: str, batch_id: str) -> str:
    """The list of what a batch holds."""
    return f"{batch(tenant, batch_id)}:items"


def batch_unfinished(tenant: str, batch_id: str) -> str:
    """The set of a batch's unfinished jobs."""
    return f"{batch(tenant, batch_id)}:open"


def batch_states(tenant: str, batch_id: str) -> str:
    """The sorted set of the states of a batch's jobs."""
    return f"{batch(tenant, batch_id)}:states"


def idempotency(tenant: str, route: str, key: str) -> str:
    """An idempotency key's entry. Hashed, because what clients choose may be long or secret."""
    return _key("idempotency", hashlib.sha256("\n".join((tenant, route, key)).encode()).hexdigest())


def request_quota(key_id: str) -> str:
    """When an API key's requests will have drained."""
    return _key("quota", "requests", key_id)


def byte_quota(key_id: str) -> str:
    """When an API key's bytes will have drained."""
    return _key("quota", "bytes", key_id)
