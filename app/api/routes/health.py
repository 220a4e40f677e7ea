"""`/livez` and `/readyz` (or `/healthz`): whether to restart this process, and whether to send it work. Open to all."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.dependencies import ServicesDep
from app.api.openapi.components import headers, problems
from app.api.schemas.health import Check, Liveness, Readiness
from app.core.problems import Problem

router = APIRouter(tags=["operations"])


@router.get("/livez", responses={200: {"headers": headers()}, **problems()})
async def livez() -> Liveness:
    """Say that the event loop turns. Asks nobody else."""
    return Liveness()


@router.get(
    "/healthz",
    name="healthz",
    summary="The same as `/readyz`",
    responses={200: {"headers": headers()}, **problems("not_ready")},
    response_model_exclude_none=True,
)
@router.get(
    "/readyz", responses={200: {"headers": headers()}, **problems("not_ready")}, response_model_exclude_none=True
)
async def readyz(
    services: ServicesDep,
    verbose: Annotated[str | None, Query(description="Explain the checks that are in order, too.")] = None,
) -> Readiness:
    """Say whether tracks can be accepted, and name what is wrong or unsafe. Measured once a second at most."""
    results = await services.readiness.checks()
    checks = results if verbose is not None else {name: terse(check) for name, check in results.items()}
    failed = [name for name, check in checks.items() if check.status == "failed"]
    if failed:
        shown = {name: check.model_dump(exclude_none=True) for name, check in checks.items()}
        raise Problem("not_ready", f"Failed: {', '.join(failed)}.", checks=shown)
    return Readiness(checks=checks)


def terse(check: Check) -> Check:
    """The check without its detail, unless something is wrong."""
    return Check(status="ok") if check.status == "ok" else check
