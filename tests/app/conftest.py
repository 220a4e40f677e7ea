"""Fixtures of the HTTP front end: the application on a real Redis, and a client that checks every answer."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis

from app.api import readiness, ttl_cache
from app.api.dependencies import Services
from app.api.submissions import create_job
from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.api.asgi import check_promises


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test changes is seen at once."""
    monkeypatch.setattr(ttl_cache, "TTL_S", -1.0)
    monkeypatch.setattr(readiness, "FRESH_S", 0.0)
    monkeypatch.setattr(create_job, "COMPARED_S", 0.0)


@pytest.fixture
def settings(data_dir: Path, redis_url: str) -> ApiSettings:
    return ApiSettings(data_dir=data_dir, redis_url=redis_url)


@pytest.fixture
def app(settings: ApiSettings, redis: Redis) -> FastAPI:
    return create_app(settings, redis=redis)


@pytest.fixture
def services(app: FastAPI) -> Services:
    services: Services = app.state.services
    return services


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Every answer that it gets is checked, whatever the test is about."""
    async with client_of(app) as client:
        yield client


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost", event_hooks={"response": [check_promises]}
    )
