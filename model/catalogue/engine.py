"""A run over a catalogue: its plan is written, and Ray's actors make a file of the output from each bucket.

This process holds no track: neither what it is nor what became of it. A file that is there is done, so a run that was
killed goes on where it was, and several runs of the same may go on side by side.
"""

import io
import json
import math
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from model.audio.prefetch import TrackDecoder
from model.catalogue.actor import BUCKETS_AT_ONCE, BucketActor, Work
from model.catalogue.output import Output
from model.catalogue.plan import Plan, write_plan
from model.catalogue.pool import Pool
from model.catalogue.rows import Rows
from model.catalogue.sources import Sources
from model.catalogue.tracks import Summary, Track
from model.domain import ApexError
from model.inference.scorer import Scorer
from model.temporary import temporary_directory
from model.training.ray_session import ray_session
from model.training.tables import DataError

PROVENANCE = "provenance.json"
#: Fields of the provenance, and what to call them where they are not those of the run that began the output.
FIELDS = {
    "model": "other weights, or another head",
    "output": "another kind of output",
    "manifest_sha256": "another manifest",
    "bucket_tracks": "another size of its files",
}


@dataclass(frozen=True)
class Slots:
    """Where actors run. One has a share of a GPU, or a node's cores."""

    device: str = "auto"
    actors: int = 0  # 0: as many as the GPUs have room for, or one a node
    gpu_share: float = 0.0  # 0: a whole GPU, or less where there are more actors than GPUs


@dataclass(frozen=True)
class Catalogue:
    """What is done with the tracks of a manifest.

    kind : of the output, for its provenance
    provenance : what the output's rows depend on; JSON
    model_version : of the scorer that actors load, which is refused where a node has another
    """

    manifest: str
    output: Output
    sources: Sources
    rows: Rows
    kind: str
    provenance: object
    model_version: str
    load_scorer: Callable[[], Scorer]
    open_decoder: Callable[[], AbstractContextManager[TrackDecoder]]
    bucket_tracks: int
    uri_identity: Callable[[str], str]  # what of a URI tells one manifest from another
    retry_failures: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a run is, with what earlier runs did."""

    done: Summary
    n_tracks: int


def run(
    tracks: Iterable[Track], catalogue: Catalogue, slots: Slots, on_progress: Callable[[Progress], None]
) -> Summary:
    """Make all files of the output that are not there yet; the summary of all.

    Raises DataError for a manifest or output that cannot be used, `ApexError` and `OSError` where a run cannot go on.
    """
    with temporary_directory("catalogue") as folder:
        plan = write_plan(
            tracks,
            folder,
            catalogue.manifest,
            bucket_tracks=catalogue.bucket_tracks,
            identity=catalogue.uri_identity,
        )
        _record_provenance(catalogue, plan)
        plan_name = f"plan-{plan.digest[:12]}.parquet"
        catalogue.output.replace(plan_name, plan.file)
    on_progress(Progress(Summary(), plan.n_tracks))
    done = Summary()
    with ray_session(n_actors=slots.actors) as ray:
        for more, under_way in _pool(ray, catalogue, plan_name, slots).run(_order(plan.n_buckets)):
            done += more
            on_progress(Progress(done + under_way, plan.n_tracks))
    return done


def _record_provenance(catalogue: Catalogue, plan: Plan) -> None:
    """Write what the output depends on. Raises DataError where it was begun from something else."""
    found = {
        "model": catalogue.provenance,
        "output": catalogue.kind,
        "manifest_sha256": plan.digest,
        "bucket_tracks": catalogue.bucket_tracks,
        "tracks": plan.n_tracks,
    }
    data = json.dumps(found, indent=2).encode() + b"\n"
    if catalogue.output.create(PROVENANCE, data):
        return
    earlier = _read_json(catalogue.output, PROVENANCE)
    for field, words in FIELDS.items():
        if earlier.get(field) != found[field]:
            raise DataError(f"{catalogue.output}: was begun with {words}; choose another --out")


def _read_json(output: Output, name: str) -> Mapping[str, Any]:
    with output.open(name) as file:
        data = file.read()
    try:
        found = json.load(io.BytesIO(data))
    except ValueError as error:
        raise DataError(f"{output}/{name}: is not JSON: {error}") from error
    return found if isinstance(found, dict) else {}


def _order(n_buckets: int) -> list[int]:
    """All buckets, from any one on, so that runs side by side begin with different ones."""
    first = secrets.randbelow(n_buckets)
    return [*range(first, n_buckets), *range(first)]


def _pool(ray: Any, catalogue: Catalogue, plan_name: str, slots: Slots) -> Pool:
    n_actors, options = _placement(ray, slots)
    n_nodes = sum(node["Alive"] for node in ray.nodes())
    work = Work(
        catalogue.output,
        plan_name,
        catalogue.sources,
        catalogue.rows,
        catalogue.load_scorer,
        catalogue.open_decoder,
        catalogue.model_version,
        actors_per_node=math.ceil(n_actors / n_nodes),
        retry_failures=catalogue.retry_failures,
    )
    actor = ray.remote(BucketActor).options(
        max_restarts=-1, max_concurrency=BUCKETS_AT_ONCE + 1, scheduling_strategy="SPREAD", **options
    )
    return Pool(ray, [actor.remote(work) for _ in range(n_actors)])


def _placement(ray: Any, slots: Slots) -> tuple[int, dict[str, float]]:
    """How many actors there are, and what each takes. Raises ApexError where the cluster has not got it."""
    resources = ray.cluster_resources()
    n_gpus = resources.get("GPU", 0.0)
    if not (slots.device.startswith("cuda") or (slots.device == "auto" and n_gpus)):
        n_actors = slots.actors or sum(node["Alive"] for node in ray.nodes())
        _require(n_actors, resources.get("CPU", 0.0), "processor cores")
        return n_actors, {"num_cpus": 1}
    share = slots.gpu_share or (min(1.0, n_gpus / slots.actors) if slots.actors else 1.0)
    n_actors = slots.actors or max(1, int(n_gpus // share))
    _require(n_actors * share, n_gpus, "GPUs")
    return n_actors, {"num_gpus": share, "num_cpus": 0}


def _require(wanted: float, present: float, what: str) -> None:
    if wanted > present + 1e-6:
        raise ApexError(f"so many actors need {wanted:g} {what}, and Ray has {present:g}: see --actors and --gpu-share")
