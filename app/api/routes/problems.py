"""`/problems`: a page for people about each kind of problem, from the same table as the problems. Open to all."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse

from app.api.openapi.components import headers, problems
from app.api.pages import page
from app.core.problems import PROBLEMS, Problem

BY_SLUG = {kind.slug: kind for kind in PROBLEMS.values()}

router = APIRouter(prefix="/problems", tags=["problems"], default_response_class=HTMLResponse)


@router.get("", response_description="A page.", responses={200: {"headers": headers()}, **problems()})
async def list_problems(request: Request) -> HTMLResponse:
    """List every kind of problem as a page for people."""
    return page(request, "problems.html", kinds=PROBLEMS.values())


@router.get("/{slug}", response_description="A page.", responses={200: {"headers": headers()}, **problems("not_found")})
async def get_problem(
    request: Request,
    slug: Annotated[str, Path(description="Last step of a problem's `type`.", examples=["payload-too-large"])],
) -> HTMLResponse:
    """Explain one kind of problem as a page for people."""
    kind = BY_SLUG.get(slug)
    if kind is None:
        raise Problem("not_found", "There is no such problem.")
    return page(request, "problem.html", kind=kind)
