"""`/docs`, where the interface can be tried out, and the files of all pages. Nothing is loaded from elsewhere."""

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.staticfiles import StaticFiles

from app.api.pages import page

STATIC = Path(__file__).parents[1] / "static"
#: Swagger UI sets styles on elements and draws its icons from data.
SWAGGER_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

router = APIRouter(include_in_schema=False)
#: The pages' files, our own and Swagger UI's, which a package brings.
router.mount("/static", StaticFiles(directory=STATIC, packages=[("fastapi_offline", "static")]), name="static")


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Swagger UI on the served document."""
    response = page(request, "docs.html", title=request.app.title)
    response.headers["Content-Security-Policy"] = SWAGGER_POLICY
    return response


@router.get("/favicon.ico")
async def favicon() -> FileResponse:
    """The icon, for browsers that ask without having been told of it."""
    return FileResponse(STATIC / "favicon.svg")
