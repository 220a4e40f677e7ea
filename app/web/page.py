"""The routes of the page: the documents `/` and `/ops`, and the files that they load. Open to all, like an empty form.

Every path in them is relative, so the page works under whatever path a proxy serves it.
"""

from collections.abc import Mapping, Sequence
from functools import cache

from fastapi import APIRouter, Request
from fastapi.responses import Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException

from app.web.files import PageFile, PageFiles

#: Of a document: it runs its own modules alone, makes no HTML of text, talks to its own service and stands in no frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; media-src blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
DOCUMENT_HEADERS = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
FILE_HEADERS = {"Cache-Control": "public, max-age=31536000, immutable"}
#: The path of each document, its template, the module that it runs, and its stylesheets: a later one counts more.
DOCUMENTS = {
    "/": ("page.html", "app.js", ("base", "score", "views", "screens")),
    "/ops": ("ops.html", "ops.js", ("base", "score", "views", "ops", "screens")),
}


@cache
def router() -> APIRouter:
    """The page's routes. Reads its files, once."""
    files = PageFiles.read()
    templates = Environment(loader=PackageLoader("app.web"), autoescape=True, undefined=StrictUndefined)
    routes = APIRouter(include_in_schema=False)

    def add_document(path: str, template: str, entry: str, sheets: Sequence[str]) -> None:
        base = f"web/{files.digest}"
        html = templates.get_template(template).render(
            base=base, entry=entry, modules=files.modules(entry)[1:], sheets=[f"style/{name}.css" for name in sheets]
        )
        document_file = PageFile.of(html.encode(), "text/html; charset=utf-8")

        async def document(request: Request) -> Response:
            return file_response(request, document_file, DOCUMENT_HEADERS)

        routes.add_api_route(path, document)

    for path, parts in DOCUMENTS.items():
        add_document(path, *parts)

    @routes.get("/web/{digest}/{path:path}")
    async def file(request: Request, digest: str, path: str) -> Response:
        if digest != files.digest or path not in files.by_path:
            raise HTTPException(404)
        return file_response(request, files.by_path[path], FILE_HEADERS)

    return routes


def file_response(request: Request, file: PageFile, headers: Mapping[str, str]) -> Response:
    """The file, compressed for a client that accepts gzip."""
    headers = {"Vary": "Accept-Encoding", **headers}
    if file.compressed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.compressed, media_type=file.media_type, headers=headers | {"Content-Encoding": "gzip"})
    return Response(file.body, media_type=file.media_type, headers=headers)
