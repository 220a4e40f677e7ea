"""A catalogue's tracks scored with the decoder and the model of the service's settings."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.cli.catalogue.places import Places, open_output, without_signature
from app.core.settings import WorkerSettings
from model.audio.decoder import temporary_decoder
from model.catalogue.engine import Catalogue, Progress, Slots, run
from model.catalogue.rows import ScoreRows
from model.catalogue.tracks import Summary
from model.inference.scorer import Scorer, model_version


@dataclass(frozen=True)
class Choices:
    """What an operator chooses beside manifest, output and settings."""

    head: Path | None = None
    embeddings: bool = False
    bucket_tracks: int = 100
    retry_failures: bool = False
    slots: Slots = Slots()


def score(
    manifest: str, out: str, settings: WorkerSettings, choices: Choices, on_progress: Callable[[Progress], None]
) -> Summary:
    """Score the tracks of a manifest, or of a folder. Raises as `model.catalogue.engine.run` does."""
    places = Places.of(settings)
    head = choices.head.resolve() if choices.head else None
    weights_dir = settings.weights_dir.resolve()
    version = model_version(weights_dir, head)
    catalogue = Catalogue(
        manifest,
        open_output(out, settings.storage_timeout_s),
        places,
        ScoreRows(choices.embeddings),
        kind="scores and embeddings" if choices.embeddings else "scores",
        provenance=version,
        model_version=version,
        load_scorer=partial(Scorer.load, weights_dir, head=head, **settings.engine_options),
        open_decoder=partial(temporary_decoder, settings),
        bucket_tracks=choices.bucket_tracks,
        uri_identity=without_signature,
        retry_failures=choices.retry_failures,
    )
    return run(places.tracks(manifest), catalogue, choices.slots, on_progress)
