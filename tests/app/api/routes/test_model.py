"""`GET /model`: the loaded model, the limits on tracks, and what the scores mean."""

import httpx
import pytest

from app.api.dependencies import Services
from model.domain import SCORE_RANGES
from tests.app.api.routes.jobs.test_reading import IDENTITY

pytestmark = pytest.mark.anyio


async def test_before_a_worker_has_started_nothing_is_loaded(client: httpx.AsyncClient) -> None:
    card = (await client.get("/model")).json()
    assert card["loaded"] is None
    assert list(card["scores"]) == list(SCORE_RANGES)


async def test_the_card_of_the_workers_is_shown(client: httpx.AsyncClient, services: Services) -> None:
    scores = {"score_streams": [0.0, 100.0], "score_likes": [0.0, 100.0]}
    facts = {"scores": scores, "licences": {"MERT": "CC-BY-NC-4.0"}}
    facts["reference"] = {"name": "A catalogue", "date": "2026-11-27", "n_tracks": 12000}
    services.worker_info.publish_model({**IDENTITY, "trained": False, **facts, "new": 1})
    loaded = (await client.get("/model")).json()["loaded"]
    assert loaded == {**IDENTITY, "trained": False, **facts}


async def test_the_limits_are_those_of_the_settings(client: httpx.AsyncClient, services: Services) -> None:
    inputs = (await client.get("/model")).json()["inputs"]
    assert inputs["max_bytes"] == services.settings.max_upload_bytes
    assert (inputs["min_duration_s"], inputs["max_duration_s"]) == (1.0, 900.0)
    assert "mp3" in inputs["containers"]


async def test_the_fine_print_is_there(client: httpx.AsyncClient) -> None:
    card = (await client.get("/model")).json()
    assert "AI-generated" in card["training"]
    assert "CC-BY-NC-4.0" in card["licence"]
    assert any("listeners prefer" in caveat for caveat in card["caveats"])
