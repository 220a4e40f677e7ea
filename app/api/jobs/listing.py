"""The list of a tenant's jobs, and its filters."""

from collections.abc import Collection
from functools import partial

from app.api.listing import Listed, binding
from app.api.schemas.job import JobFilters
from app.core.created_index import CreatedIndex
from app.core.jobs.store import JobStore
from app.core.json_types import Json
from app.core.problems import Problem, invalid_field

#: Fields of a record that have a filter, which every list reads.
FIELDS = ("status", "external_id", "batch_id")


def listed_jobs(store: JobStore, tenant: str, filters: JobFilters, *, indexed_metadata: Collection[str] = ()) -> Listed:
    """A tenant's jobs that pass the filters.

    Raises `validation_error` for a filter by a metadata key that is not among `indexed_metadata`.
    """
    wanted = [_pair(text, indexed_metadata) for text in filters.metadata]
    key = store.keys.by_metadata(tenant, *wanted[0]) if wanted else store.keys.by_created(tenant)
    names = (*FIELDS, "metadata") if wanted else FIELDS
    return Listed(
        CreatedIndex(store.redis, key),
        filters,
        read=lambda ids: store.get_fields(ids, names),
        matches=partial(_matches, filters, dict(wanted)),
        binding=binding(tenant, filters),
    )


def _pair(text: str, indexed: Collection[str]) -> tuple[str, str]:
    key, colon, value = text.partition(":")
    if colon and key in indexed:
        return key, value
    known = f"Jobs can be found by {', '.join(indexed)}." if indexed else "This server keeps no index of metadata."
    raise _bad_filter(known if colon else f"Input should be like `key:value`. {known}")


def _bad_filter(detail: str) -> Problem:
    return invalid_field("metadata", detail)


def _matches(filters: JobFilters, metadata: dict[str, str], fields: Json) -> bool:
    if not all(getattr(filters, name) in (None, fields[name]) for name in FIELDS):
        return False
    found = fields["metadata"] if metadata else {}
    return isinstance(found, dict) and metadata.items() <= found.items()
