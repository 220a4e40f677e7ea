"""Fixtures of the tests of submissions."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis

from app.core.settings import ApiSettings
from app.main import create_app
from tests.app.conftest import client_of


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client, app.router.lifespan_context(app):
        yield client


@pytest.fixture
def guarded(settings: ApiSettings, redis: Redis) -> FastAPI:
    return create_app(settings.model_copy(update={"require_api_keys": True}), redis=redis)
