"""`GET /model`: the model that the workers run, the limits on tracks, and what the scores mean."""

from collections.abc import Sequence

from fastapi import APIRouter, Depends
from pydantic import ValidationError

from app.api.auth.authentication import RequireScope
from app.api.dependencies import ServicesDep
from app.api.openapi.components import headers, problems
from app.api.schemas.model import InputLimits, LoadedModel, ModelCard
from app.api.schemas.scores import ScoreMeanings
from app.api.uploads.receiver import CONTAINER_NAMES
from app.core.json_types import Json
from app.core.settings import ApiSettings
from app.core.stored import set_aside
from model.domain import SCORE_RANGES

MEANINGS = {
    "score_streams": "Predicted popularity by plays, as a percentile among the training songs' platforms.",
    "score_likes": "Predicted popularity by likes, as a percentile among the training songs' platforms.",
    "coherence": "How well the parts of the song hold together, as SongEval would rate it.",
    "musicality": "How musical the song is overall, as SongEval would rate it.",
    "memorability": "How easily the song is remembered, as SongEval would rate it.",
    "clarity": "How clear the song's structure is, as SongEval would rate it. Not the clarity of the sound.",
    "naturalness": "How natural the breathing and phrasing of the vocals are, as SongEval would rate it.",
}
TRAINING = (
    "Trained on AI-generated music: about 211,000 songs from two generators, Suno and Udio. "
    "Music of any other kind is outside of what the model has seen."
)
CAVEATS = [
    "A ranking by predicted score is just that: it does not say which track listeners prefer. "
    "Against human choices between pairs of tracks the published rules were right about half of the time.",
    "The published model's popularity scores are off by 20 points or more in the root mean square.",
    "Aesthetic scores of similar songs lie very close together: small differences mean nothing.",
    "The aesthetic scores imitate another model, SongEval, and not a panel of listeners.",
]
LICENCE = (
    "The default weights contain MERT-v1-95M, which is CC-BY-NC-4.0: they are for non-commercial use only. "
    "The APEX head is Apache-2.0."
)

router = APIRouter(tags=["scoring"], dependencies=[Depends(RequireScope())])


@router.get(
    "/model",
    responses={200: {"headers": headers()}, **problems("unauthorized", "cross_site_request", "redis_unavailable")},
)
def get_model(services: ServicesDep) -> ModelCard:
    """Read which model the workers run, the limits on tracks, and what the scores mean and do not mean."""
    versions = list(services.job_service.queue_load().models)
    return model_card(services.worker_info.model(), services.settings, versions=versions)


def model_card(loaded: Json | None, settings: ApiSettings, *, versions: Sequence[str] = ()) -> ModelCard:
    """What `GET /model` returns. `loaded` is what the last worker to start published of its model; None before any did.

    `versions` are those of the models that workers run now.
    """
    return ModelCard(
        loaded=loaded_model(loaded) if loaded else None,
        versions=list(versions),
        inputs=input_limits(settings),
        scores=score_meanings(),
        training=TRAINING,
        caveats=CAVEATS,
        licence=LICENCE,
    )


def loaded_model(published: Json) -> LoadedModel | None:
    """The model that workers published; None for one that cannot be shown."""
    try:
        return LoadedModel.model_validate(published)
    except ValidationError:
        set_aside("the published model", "it cannot be shown")
        return None


def score_meanings() -> ScoreMeanings:
    return ScoreMeanings.model_validate(
        {name: {"range": bounds, "meaning": MEANINGS[name]} for name, bounds in SCORE_RANGES.items()}
    )


def input_limits(settings: ApiSettings) -> InputLimits:
    limits = settings.audio_limits
    return InputLimits(
        containers=CONTAINER_NAMES,
        max_bytes=settings.max_upload_bytes,
        min_duration_s=limits.min_duration_s,
        max_duration_s=limits.max_duration_s,
        min_sample_rate_hz=limits.min_sample_rate_hz,
        max_sample_rate_hz=limits.max_sample_rate_hz,
        max_channels=limits.max_channels,
    )
