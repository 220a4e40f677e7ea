"""The HTTP front end: accepts tracks, and serves the jobs that come of them. It decodes and scores nothing."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from importlib.metadata import version

from fastapi import APIRouter, FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from redis import Redis
from starlette.routing import BaseRoute

from app.api import cors, errors
from app.api.dependencies import Services
from app.api.middleware import RequestMiddleware
from app.api.openapi import document
from app.api.openapi import webhooks as webhooks_sent
from app.api.routes import (
    batches,
    capacity,
    compare,
    docs,
    health,
    jobs,
    model,
    operations,
    problems,
    results,
    score,
    usage,
    webhooks,
)
from app.core.redis.client import connect
from app.core.settings import ApiSettings
from app.core.storage.room import Reservations
from app.web import page

#: In the order in which the document shows them.
ROUTES = (score, jobs, batches, results, webhooks, compare, model, capacity, operations, usage, health, problems, docs)

#: The first command without a reply fails its request, so that the client gets its error within two seconds.
REDIS_TIMEOUT_S = 1.5

DESCRIPTION = """\
Send a track to `POST /score`, follow `Location` until `done`, and read its scores.
The model was trained on AI-generated music; `GET /model` says what its scores mean and do not mean.
Every error is `application/problem+json`, and each `type` is the path of a page that explains it.
"""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(
    settings: ApiSettings, *, redis: Redis | None = None, reservations: Reservations | None = None
) -> FastAPI:
    """Build the application. Creates the storage directory and reads the API keys, but does not connect to Redis yet.

    A `redis` that is passed in is not closed with the application. `reservations` are those of several processes.
    """
    # No command is retried: the pool replaces a stale connection, and the client can repeat its request itself.
    client = redis or connect(settings.redis_url, max_retries=0, timeout_s=REDIS_TIMEOUT_S)
    app = FastAPI(
        routes=_routes(with_page=settings.page),
        title="APEX music scoring",
        version=version("apex-scoring"),
        description=DESCRIPTION,
        contact=document.CONTACT,
        license_info=document.LICENCE,
        servers=document.servers(settings.root_path),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        openapi_tags=document.TAGS,
        lifespan=_lifespan(client if redis is None else None),
        redirect_slashes=False,  # a redirect would contain the Host header that the client sent
        separate_input_output_schemas=False,
    )
    app.state.services = Services.build(settings, client, reservations)
    app.state.root_path = settings.root_path
    errors.install(app)
    webhooks_sent.install(app)
    document.install(app)
    app.add_middleware(RequestMiddleware)
    cors.install(app, settings.cors_origins)
    return app


@cache
def _routes(*, with_page: bool) -> list[BaseRoute]:
    """The same for every application: FastAPI works out each when a request comes near it, which takes milliseconds."""
    root = APIRouter(generate_unique_id_function=_operation_id)
    for module in ROUTES:
        root.include_router(module.router)
    if with_page:
        root.include_router(page.router())
    return root.routes


def _lifespan(redis: Redis | None) -> Lifespan:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.services.simulator.start()
        yield
        await run_in_threadpool(app.state.services.simulator.stop)
        await app.state.services.notifications.close()
        if redis is not None:
            redis.close()

    return lifespan


def _operation_id(route: APIRoute) -> str:
    return route.name
