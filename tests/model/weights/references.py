"""Reference distributions for tests."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.domain import PREPROCESSING, SCORE_RANGES
from model.weights.directory import entry_of, read_manifest, write_manifest
from model.weights.reference import N_QUANTILES, REFERENCE_FILE

PATH = f"apex/{REFERENCE_FILE}"


def even_quantiles() -> dict[str, list[float]]:
    """Scores that are spread evenly over their range."""
    last = N_QUANTILES - 1
    return {
        name: [low + (high - low) * i / last for i in range(N_QUANTILES)] for name, (low, high) in SCORE_RANGES.items()
    }


def add_reference(directory: Path, *, quantiles: Mapping[str, list[float]] | None = None, **changes: Any) -> Path:
    """Write a reference distribution into weights in our own layout, and list it in their manifest."""
    manifest = read_manifest(directory)
    model = {
        "encoder_sha256": manifest.files["mert/model.safetensors"].sha256,
        "head_sha256": manifest.files["apex/apex.safetensors"].sha256,
        "preprocessing": PREPROCESSING,
    }
    content = {"format": 1, "name": "A catalogue", "date": "2026-11-27", "n_tracks": 12000, "model": model}
    path = directory / PATH
    path.write_text(json.dumps(content | {"quantiles": quantiles or even_quantiles()} | changes))
    write_manifest(directory, replace(manifest, files={**manifest.files, PATH: entry_of(path)}))
    return path
