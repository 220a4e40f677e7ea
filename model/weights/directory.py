"""The weights directory: MERT, the head and a manifest that says what they are and where they came from.

    DIR/mert/      config.json, preprocessor_config.json, model.safetensors (or the published pytorch_model.bin)
    DIR/apex/      apex.safetensors (or best_model.pt, or config.json and pytorch_model.bin); reference.json or none
    DIR/manifest.json

A directory appears whole or not at all: it is written beside its place, synced and renamed.
"""

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import save_file

from model.domain import WeightsError
from model.files import sync, write_text
from model.networks.checkpoint import read_json, read_metadata, read_tensors
from model.networks.head_formats import HEAD_FILE, LAYOUTS, load_head, save_head
from model.networks.mert import WEIGHT_FILES, load_mert, weights_path
from model.weights import random_weights
from model.weights.hub import (
    COMMIT,
    PUBLISHED,
    RELEASED,
    HubSource,
    Progress,
    fetch,
    git_blob_id,
    no_progress,
    sha256_of,
)
from model.weights.hub import published as published
from model.weights.reference import REFERENCE_FILE, read_reference

MANIFEST = "manifest.json"
FORMAT = 1
MERT_FILE = "model.safetensors"
#: Of the training script's checkpoints; only they are looked up among the released files.
CHECKPOINT_SUFFIX = ".pt"
MERT_CONFIGS = ("config.json", "preprocessor_config.json")
#: Every path that a manifest may name. Nothing else in the directory is ever read.
PATHS = (
    *(f"mert/{name}" for name in (*MERT_CONFIGS, *WEIGHT_FILES)),
    *(f"apex/{name}" for name in ("config.json", *LAYOUTS, REFERENCE_FILE)),
)


@dataclass(frozen=True)
class FileEntry:
    """One file: the hash of its bytes, and where they come from. Unknown provenance is None.

    `source` is `repository/file` on the hub, or on GitHub for a released checkpoint, which is recognised by its git
    blob id; `revision` is the commit, or that id as `blob:ID`. `source_sha256` is the hash that the file had there, or
    had before it was converted.
    """

    sha256: str
    bytes: int
    source: str | None = None
    revision: str | None = None
    licence: str | None = None
    source_sha256: str | None = None


@dataclass(frozen=True)
class Manifest:
    """What a weights directory holds. `trained` is false for random weights, whose scores mean nothing.

    `created_at` is ISO 8601, and None for a directory that came without a manifest.
    """

    trained: bool
    files: Mapping[str, FileEntry]
    created_at: str | None = None
    format: int = FORMAT


_DAMAGED = "it is damaged; remove the directory and get the weights again"
_TEXT, _OPTIONAL = (str,), (str, type(None))
_MANIFEST_FIELDS: dict[str, tuple[type, ...]] = {
    "trained": (bool,),
    "files": (dict,),
    "created_at": _OPTIONAL,
    "format": (int,),
}
_ENTRY_FIELDS: dict[str, tuple[type, ...]] = {
    "sha256": _TEXT,
    "bytes": (int,),
    "source": _OPTIONAL,
    "revision": _OPTIONAL,
    "licence": _OPTIONAL,
    "source_sha256": _OPTIONAL,
}


def read_manifest(directory: Path) -> Manifest:
    """The manifest in the directory; without one, a manifest made from its files.

    Does not compare the files with the manifest: `verify` does. Raises WeightsError naming the file.
    """
    path = directory / MANIFEST
    if not path.exists():
        return Manifest(trained=not _is_marked(directory), files=_entries(directory))
    raw = _typed(read_json(path), _MANIFEST_FIELDS, str(path))
    if raw["format"] != FORMAT:
        raise WeightsError(f"{path}: format {raw['format']} is not known here, only {FORMAT}")
    if strange := sorted(raw["files"].keys() - set(PATHS)):
        raise WeightsError(f"{path}: names {strange[0]!r}, which is no file of a weights directory")
    files = {name: FileEntry(**_typed(entry, _ENTRY_FIELDS, f"{path}: {name}")) for name, entry in raw["files"].items()}
    return Manifest(**raw | {"files": files})


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, replacing the one that is there in one step."""
    write_text(directory / MANIFEST, json.dumps(asdict(manifest), indent=2, sort_keys=True) + "\n")


def verify(directory: Path, *, deep: bool = False) -> Manifest:
    """The manifest, once every file has been found to be what it says; `deep` also loads both networks strictly.

    Raises WeightsError naming the file, and with `deep` the tensor, that is missing, altered, misshapen or not finite.
    """
    _check_complete(directory)
    manifest = read_manifest(directory)
    if unlisted := sorted(_present(directory) - manifest.files.keys()):
        raise WeightsError(f"{directory / unlisted[0]} is not in the manifest: remove it, or remove {MANIFEST}")
    for name, entry in manifest.files.items():
        _check_file(directory / name, entry)
    if manifest.trained and _is_marked(directory):
        raise WeightsError(f"{directory / MANIFEST} says trained, but the files are those of an untrained stand-in")
    if deep:
        load_mert(directory / "mert")
        head, reference = load_head(directory / "apex"), directory / "apex" / REFERENCE_FILE
        if reference.exists():
            read_reference(reference, score_names=head.config.score_names)
    return manifest


def write_stand_in(
    directory: Path,
    *,
    size: Literal["full", "tiny"] = "full",
    task: Literal["full", "popularity"] = "full",
    n_shared: Literal[2, 3] = 2,
    seed: int = 0,
) -> Manifest:
    """Make untrained weights in the published layout, with a manifest that says trained false.

    Their scores differ between tracks and mean nothing. On one machine the same seed gives the same files. Replaces
    an earlier stand-in and nothing else; leaves torch's global random state as it was.
    """
    with _new_directory(directory) as new:
        random_weights.write(new, size=size, task=task, n_shared=n_shared, seed=seed)
        manifest = Manifest(trained=False, files=_entries(new), created_at=_now())
        write_manifest(new, manifest)
    return manifest


def convert(source: Path, destination: Path, *, head_path: Path | None = None) -> Manifest:
    """Write the weights in `source`, in any layout that we read, to `destination` as safetensors, number for number.

    With `head_path` that head takes the place of the one in `source`, so that workers serve what a training run made.
    The provenance in the manifest of `source` is copied, and the reference distribution of its own head. Raises
    WeightsError.
    """
    origin = verify(source, deep=True)
    head, mert = load_head(head_path or source / "apex"), weights_path(source / "mert")
    made_from = {
        f"mert/{MERT_FILE}": origin.files[f"mert/{mert.name}"],
        f"apex/{HEAD_FILE}": entry_of(head.path) if head_path else origin.files[f"apex/{head.path.name}"],
    }
    with _new_directory(destination) as new:
        _convert_mert(mert, new / "mert")
        (new / "apex").mkdir()
        save_head(new / "apex" / HEAD_FILE, head.head, head.layer_mix, head.info)
        if not head_path and f"apex/{REFERENCE_FILE}" in origin.files:
            shutil.copyfile(source / "apex" / REFERENCE_FILE, new / "apex" / REFERENCE_FILE)
        files = _entries(new, {**origin.files, **made_from})
        manifest = Manifest(trained=origin.trained, files=files, created_at=_now())
        write_manifest(new, manifest)
    return manifest


def pull(
    directory: Path,
    *,
    endpoint: str | None = None,
    on_progress: Progress = no_progress,
    timeout_s: float = 10.0,
    sources: Sequence[HubSource] = PUBLISHED,
) -> Manifest:
    """Fetch the published weights and leave them in `directory` as safetensors with a manifest, checked and loadable.

    Does nothing when they are there already. An interrupted call leaves what it has fetched beside the directory, in
    `.NAME.pull`, and the next call continues from it. `timeout_s` is for each request to the hub. Raises WeightsError.
    """
    directory = directory.resolve()
    if _has_sources(directory, sources):
        return verify(directory, deep=True)
    _check_may_write(directory)
    with _staging(directory) as staging:
        files: dict[str, FileEntry] = {}
        for source in sources:
            folder = staging / source.folder
            commit = fetch(source, folder, endpoint=endpoint, on_progress=on_progress, timeout_s=timeout_s)
            files |= {f"{source.folder}/{name}": _fetched(source, commit, folder / name) for name in source.files}
        write_manifest(staging, Manifest(trained=True, files=files, created_at=_now()))
        return convert(staging, directory)


def _typed(raw: object, fields: Mapping[str, tuple[type, ...]], where: str) -> dict[str, Any]:
    """The mapping, if it has exactly these fields with values of exactly these types; else WeightsError."""
    if not isinstance(raw, dict):
        raise WeightsError(f"{where}: not a JSON object")
    faults = [f"{name} is missing" for name in fields if name not in raw]
    faults += [f"{name} is unexpected" for name in raw if name not in fields]
    faults += [f"{name} is {raw[name]!r:.80}" for name in fields if name in raw and type(raw[name]) not in fields[name]]
    if faults:
        raise WeightsError(f"{where}: {'; '.join(faults)}")
    return raw


def _present(directory: Path) -> set[str]:
    return {name for name in PATHS if (directory / name).exists()}


def _entries(directory: Path, origins: Mapping[str, FileEntry] | None = None) -> dict[str, FileEntry]:
    """An entry for each file in the directory, with the provenance of its origin where that is given."""
    return {
        name: entry_of(directory / name, (origins or {}).get(name)) for name in PATHS if name in _present(directory)
    }


def entry_of(path: Path, origin: FileEntry | None = None) -> FileEntry:
    """The entry of a file, with the provenance of its origin where that is given."""
    sha256, n_bytes = sha256_of(path), path.stat().st_size
    if origin is None:
        return _given_by_hand(path, FileEntry(sha256, n_bytes))
    return replace(origin, sha256=sha256, bytes=n_bytes, source_sha256=origin.source_sha256 or origin.sha256)


def _given_by_hand(path: Path, entry: FileEntry) -> FileEntry:
    """The entry of a file of unknown origin, with its origin where it is a checkpoint that its authors released."""
    if path.suffix != CHECKPOINT_SUFFIX or (released := RELEASED.get(blob_id := git_blob_id(path))) is None:
        return entry
    return replace(entry, source=released.source, revision=f"blob:{blob_id}", licence=released.licence)


def _fetched(source: HubSource, commit: str, path: Path) -> FileEntry:
    return replace(entry_of(path), source=f"{source.repo}/{path.name}", revision=commit, licence=source.licence)


def _check_complete(directory: Path) -> None:
    if not directory.is_dir():
        raise WeightsError(f"{directory} does not exist: fetch the published weights with 'apex weights pull'")
    weights_path(directory / "mert")
    if not (directory / "mert" / "config.json").exists():
        raise WeightsError(f"{directory / 'mert' / 'config.json'} is missing")
    if not any((directory / "apex" / name).exists() for name in LAYOUTS):
        raise WeightsError(f"{directory / 'apex'}: holds no head, neither {' nor '.join(LAYOUTS)}")


def _check_file(path: Path, entry: FileEntry) -> None:
    if not path.is_file():
        raise WeightsError(f"{path} is missing, though the manifest lists it")
    if (n_bytes := path.stat().st_size) != entry.bytes:
        raise WeightsError(f"{path} has {n_bytes} bytes, not {entry.bytes} as in the manifest: {_DAMAGED}")
    if (sha256 := sha256_of(path)) != entry.sha256:
        raise WeightsError(f"{path} has sha256 {sha256}, not {entry.sha256} as in the manifest: {_DAMAGED}")


def _is_marked(directory: Path) -> bool:
    """Whether the header of a file of tensors says that its weights are untrained."""
    paths = (directory / "mert" / MERT_FILE, directory / "apex" / HEAD_FILE)
    return any(random_weights.is_marked(path) for path in paths if path.exists())


def _convert_mert(weights: Path, folder: Path) -> None:
    folder.mkdir()
    for config in MERT_CONFIGS:
        if (weights.parent / config).exists():
            shutil.copyfile(weights.parent / config, folder / config)
    # Clones, because a pickle may hold tensors that share memory, which safetensors refuses.
    tensors = {
        name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in read_tensors(weights).items()
    }
    # One entry: safetensors writes several in no fixed order, and the hash of the file would change with it.
    marked = weights.suffix == ".safetensors" and random_weights.is_marked(weights)
    save_file(tensors, folder / MERT_FILE, metadata=read_metadata(weights) if marked else {"format": "pt"})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _has_sources(directory: Path, sources: Sequence[HubSource]) -> bool:
    """Whether the directory's manifest names these sources, at these revisions where they are commits."""
    if not (directory / MANIFEST).is_file():
        return False
    files = read_manifest(directory).files.values()
    found = {(file.source.rpartition("/")[0], file.revision) for file in files if file.source}
    pinned = {(source.repo, source.revision) for source in sources if COMMIT.fullmatch(source.revision)}
    return pinned <= found and {repo for repo, _ in found} == {source.repo for source in sources}


def _check_may_write(directory: Path) -> None:
    if not directory.exists():
        return
    if directory.is_mount():
        raise WeightsError(f"{directory} is a mount point, which cannot be replaced: choose a directory inside it")
    if not directory.is_dir() or (any(directory.iterdir()) and not _is_only_a_stand_in(directory)):
        raise WeightsError(f"{directory} is there already: remove it, or choose another directory")


def _is_only_a_stand_in(directory: Path) -> bool:
    if not (directory / MANIFEST).is_file() or read_manifest(directory).trained:
        return False
    files = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir()}
    return files <= {MANIFEST, *PATHS}


@contextmanager
def _new_directory(directory: Path) -> Iterator[Path]:
    """A directory beside `directory`. It replaces that when the block ends, and is removed on an error."""
    directory = directory.resolve()
    _check_may_write(directory)
    new = _beside(directory, "new")
    try:
        new.mkdir(parents=True)
        yield new
        _make_durable(new)
        _put_in_place(new, directory)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"Cannot write {directory}: {error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _beside(directory: Path, kind: str) -> Path:
    return directory.with_name(f".{directory.name}.{uuid.uuid4().hex[:8]}.{kind}")


def _make_durable(directory: Path) -> None:
    """Give every file the permissions that the umask asks for, and wait until all of them are on the disk."""
    mode = (directory / MANIFEST).stat().st_mode
    for path in (*directory.rglob("*"), directory):
        if path.is_file():
            path.chmod(mode)  # safetensors writes files that only their owner can read, and a worker may be another
        sync(path)


def _put_in_place(new: Path, directory: Path) -> None:
    old = _beside(directory, "old")
    if directory.exists():
        directory.rename(old)
    new.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _staging(directory: Path) -> Iterator[Path]:
    """The folder that `pull` downloads into: for one call at a time, kept on an error, removed when the block ends."""
    staging = directory.with_name(f".{directory.name}.pull")
    try:
        staging.mkdir(parents=True, exist_ok=True)
        lock = FileLock(staging / "lock", blocking=False, fallback_to_soft=False).acquire()
    except Timeout as error:
        raise WeightsError(f"Another pull into {directory} is running.") from error
    except OSError as error:
        raise WeightsError(f"Cannot write beside {directory}: {error}") from error
    with lock:
        yield staging
        shutil.rmtree(staging, ignore_errors=True)
