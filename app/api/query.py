"""The query of a request: what an operation knows of it, and nothing else."""

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Header, Path
from fastapi.routing import APIRoute

from app.core.problems import invalid_field, validation_problem

#: They take options in the query with some bodies, and refuse others themselves once they know what the body is.
_READ_WITH_BODY = frozenset({"score_track", "create_batch", "create_batch_from_urls"})


def check_query(request: Request) -> None:
    """Raise a `validation_error` that names every parameter which the operation does not document."""
    if not request.scope["query_string"]:
        return
    route: APIRoute = request.scope["route"]
    if route.name not in _READ_WITH_BODY and (unknown := set(request.query_params) - _names(route)):
        raise validation_problem(((name,), "There is no such parameter.") for name in sorted(unknown))


def refuse_query(request: Request, detail: str) -> None:
    """Raise a `validation_error` with this detail for any parameter: what it would say belongs elsewhere."""
    for name in request.query_params:
        raise invalid_field(name, detail)


def _names(route: APIRoute) -> frozenset[str]:
    documented = (route.openapi_extra or {}).get("parameters", ())
    read = (each.alias for each in get_flat_params(route.dependant) if not isinstance(each.field_info, (Header, Path)))
    return frozenset((*read, *(parameter["name"] for parameter in documented)))
