"""The list of a tenant's batches, and its filters."""

from functools import partial

from app.api.batches.store import BatchStore
from app.api.listing import Listed, binding
from app.api.schemas.batch import BatchFilters
from app.core.json_types import Json


def listed_batches(store: BatchStore, tenant: str, filters: BatchFilters) -> Listed:
    """A tenant's batches that pass the filters."""
    return Listed(
        store.index(tenant),
        filters,
        read=lambda ids: store.filtered_fields(tenant, ids),
        matches=partial(_matches, filters),
        binding=binding(f"batches {tenant}", filters),
    )


def _matches(filters: BatchFilters, fields: Json) -> bool:
    return all(getattr(filters, name) in (None, fields[name]) for name in ("batch_external_id", "done"))
