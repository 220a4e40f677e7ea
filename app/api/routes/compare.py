"""`POST /compare`: finished jobs, ranked by a criterion of the caller's."""

from typing import Annotated

from fastapi import APIRouter, Depends

from app.api.auth.authentication import ReadJobs
from app.api.compare.ranking import compare
from app.api.dependencies import ServicesDep
from app.api.json_body import json_body
from app.api.openapi.components import compare_operation, headers, problems
from app.api.schemas.comparison import CompareRequest, Comparison

CompareBody = Annotated[CompareRequest, Depends(json_body(CompareRequest))]

router = APIRouter(tags=["scoring"])


@router.post(
    "/compare",
    response_description="The ranking, best first.",
    openapi_extra=compare_operation(),
    responses={
        200: {"headers": headers()},
        **problems(
            "bad_header",
            "unauthorized",
            "forbidden_scope",
            "cross_site_request",
            "not_found",
            "jobs_not_comparable",
            "upload_timeout",
            "job_expired",
            "payload_too_large",
            "unsupported_media_type",
            "validation_error",
            "redis_unavailable",
        ),
    },
)
def compare_jobs(caller: ReadJobs, body: CompareBody, services: ServicesDep) -> Comparison:
    """Rank finished jobs by a criterion. Answered from stored scores: nothing is scored anew.

    There is no default criterion: which scores make a track better is the caller's to say. The ranking is one of
    predicted scores, by one model that was trained on AI-generated music; listeners may well prefer another.
    """
    return compare(services.job_service.get_many(caller, body.job_ids), body.criterion)
