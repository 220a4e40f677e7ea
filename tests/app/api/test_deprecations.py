"""An operation that will go away says so in each of its responses, and in the document."""

from datetime import date, timedelta

import httpx
import pytest
from redis import Redis

from app.api import deprecations
from app.api.deprecations import NOTICE, Deprecation
from app.core.settings import ApiSettings
from app.main import create_app

pytestmark = pytest.mark.anyio

OLD_MODEL = Deprecation(date(2026, 12, 1), date(2027, 12, 1), "/v2/model")
HEADERS = {
    "deprecation": "@1796083200",
    "sunset": "Wed, 01 Dec 2027 00:00:00 GMT",
    "link": '</apex/v2/model>; rel="successor-version"',
}


@pytest.fixture
async def client(settings: ApiSettings, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> httpx.AsyncClient:
    monkeypatch.setattr(deprecations, "DEPRECATIONS", {"get_model": OLD_MODEL})
    app = create_app(settings.model_copy(update={"root_path": "/apex"}), redis=redis)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def told(answer: httpx.Response) -> dict[str, str]:
    return {name: answer.headers[name] for name in HEADERS if name in answer.headers}


async def test_each_response_of_a_deprecated_operation_says_so(client: httpx.AsyncClient) -> None:
    served = await client.get("/model")
    assert (served.status_code, told(served)) == (200, HEADERS)
    refused = await client.get("/model", headers={"Host": "evil.example"})
    assert (refused.status_code, told(refused)) == (403, HEADERS)
    assert told(await client.get("/capacity")) == {}


async def test_the_document_marks_a_deprecated_operation(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert [path for path, item in paths.items() if item.get("get", {}).get("deprecated")] == ["/model"]
    for response in paths["/model"]["get"]["responses"].values():
        assert {"Deprecation", "Sunset", "Link"} <= response["headers"].keys()


def test_nothing_goes_away_within_a_year() -> None:
    since = date(2026, 12, 1)
    with pytest.raises(ValueError, match="365 days"):
        Deprecation(since, since + NOTICE - timedelta(days=1), "/v2/model")
