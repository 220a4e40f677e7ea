"""Download the published weights from the hub: pinned, checked, and resumed after an interruption.

The only module that opens a connection to the internet, and only when one of its functions is called.
"""

import hashlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.file_download import http_get

from model.domain import WeightsError

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
CHUNK_BYTES = 1 << 18  # between two calls of the progress hook; also the most that a broken connection loses
MAX_FILE_BYTES = 4 << 30  # ten times the largest published file: beyond it, something else is being served

#: Called with `(file, bytes_done, bytes_total)` while a file arrives.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class HubSource:
    """Files to download from one repository, each with its sha256 where that is pinned.

    `folder` is where they belong in a weights directory. A revision that is not a commit is resolved to one.
    """

    repo: str
    revision: str
    licence: str
    folder: str
    files: Mapping[str, str | None]


PUBLISHED: tuple[HubSource, ...] = (
    HubSource(
        repo="m-a-p/MERT-v1-95M",
        revision="12af15fef9d0ac838c3f475bfbbf26d2060dd4f5",
        licence="CC-BY-NC-4.0",
        folder="mert",
        files={
            "config.json": None,
            "preprocessor_config.json": None,
            "pytorch_model.bin": "a2b8b747f72c06e0595aeae41ae5473f4364938c6b39b2c58be38c48e6bd3fcd",
        },
    ),
    HubSource(
        repo="amaai-lab/apex",
        revision="886958280c87b64d2abb703b9981611eb53e575d",
        licence="Apache-2.0",
        folder="apex",
        files={"config.json": None, "pytorch_model.bin": None},
    ),
)


@dataclass(frozen=True)
class ReleasedFile:
    """A file that its authors publish outside the hub: `repository/file` on GitHub, and its licence."""

    source: str
    licence: str


#: By git blob id, which is all that is needed to recognise a file that was fetched by hand.
RELEASED = {
    "72c15cc21bed630c09800af1b740753cfe34a728": ReleasedFile("AMAAI-Lab/apex/models/best_model.pt", "Apache-2.0")
}


@dataclass(frozen=True)
class Remote:
    """The hub's description of one file; `url` names the commit."""

    label: str
    url: str
    commit: str
    size: int
    sha256: str | None


#: Advice for an error of the library, by the name of its class or its nearest base.
_ADVICE = {
    "OfflineModeIsEnabled": "offline mode is on: unset HF_HUB_OFFLINE and pull again",
    "RepositoryNotFoundError": "the hub has no such open repository: check the endpoint",
    "RevisionNotFoundError": "the hub does not have the pinned revision, or that of --head-revision: check both",
    "RemoteEntryNotFoundError": "the repository does not hold this file: check the endpoint",
    "HfHubHTTPError": "the hub refused: pull again later, and what has arrived is kept",
    "InvalidURL": "the endpoint is not a URL",
    "HTTPError": "the hub cannot be reached, or the connection broke: check the network and the endpoint, then pull"
    " again, and what has arrived is kept",
    "OSError": "the file did not arrive whole: check the free space, then pull again, and what has arrived is kept",
}


def published(head_revision: str | None = None) -> tuple[HubSource, ...]:
    """The published weights, with the head of another commit, branch or tag than the pinned one where that is named."""
    if head_revision is None:
        return PUBLISHED
    if not head_revision.strip():
        raise WeightsError("the revision of the head is empty: name a commit, a branch or a tag")
    mert, head = PUBLISHED
    return mert, replace(head, revision=head_revision)


def no_progress(_file: str, _bytes_done: int, _bytes_total: int) -> None:
    """A progress hook that does nothing."""


def fetch(
    source: HubSource,
    folder: Path,
    *,
    endpoint: str | None = None,
    on_progress: Progress = no_progress,
    timeout_s: float = 10.0,
) -> str:
    """Download every file of `source` into `folder`, all from one commit, and return that commit.

    A file that is there with the right hash is kept; a partial download of an earlier call is resumed.
    Raises WeightsError when the hub cannot be reached, lacks a file, or sends other bytes than were pinned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    revision = source.revision
    for name, sha256 in source.files.items():
        remote = _look_up(source.repo, revision, name, endpoint=endpoint, timeout_s=timeout_s)
        revision = remote.commit
        _fetch_file(remote, folder / name, sha256 or remote.sha256, on_progress)
    return revision


def is_reachable(endpoint: str | None = None, *, timeout_s: float = 5.0) -> bool:
    """Whether the hub answers for the published MERT within `timeout_s`; never raises and never takes longer."""
    found: list[Remote] = []
    mert = PUBLISHED[0]

    def ask() -> None:
        with suppress(WeightsError):
            found.append(_look_up(mert.repo, mert.revision, "config.json", endpoint=endpoint, timeout_s=timeout_s))

    # A thread, because a DNS lookup without a network outlasts every timeout of the HTTP client.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return bool(found)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_blob_id(path: Path) -> str:
    """Git's name for the bytes of a file: the SHA-1 of `blob SIZE`, a zero byte and the bytes, in hexadecimal."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _look_up(repo: str, revision: str, name: str, *, endpoint: str | None, timeout_s: float) -> Remote:
    label = f"{repo}/{name}"
    with _explained(label):
        url = hf_hub_url(repo, name, revision=revision, endpoint=endpoint)
        # No token: the published files are open, so no credentials need to be sent.
        found = get_hf_file_metadata(url, timeout=timeout_s, token=False, endpoint=endpoint)
    commit, size, etag = found.commit_hash or "", found.size or 0, found.etag or ""
    if not COMMIT.fullmatch(commit) or not size:
        raise WeightsError(f"{url} does not answer like a model hub: check the endpoint, or a proxy in between.")
    if COMMIT.fullmatch(revision) and commit != revision:
        raise WeightsError(f"{label}: asked for revision {revision} and was offered {commit}; check the endpoint.")
    if size > MAX_FILE_BYTES:
        raise WeightsError(f"{label} is said to be {size} bytes long, which no published file is; check the endpoint.")
    url = hf_hub_url(repo, name, revision=commit, endpoint=endpoint)
    # The ETag of a large file is its sha256; that of a small one is a git hash, which covers more than the bytes.
    return Remote(label, url, commit, size, etag if SHA256.fullmatch(etag) else None)


def _fetch_file(remote: Remote, path: Path, sha256: str | None, on_progress: Progress) -> None:
    if not (sha256 and path.is_file() and sha256_of(path) == sha256):
        # The library deletes a partial file when its own call ends, so partial files are kept here. The commit in the
        # name keeps two versions of one file apart.
        part = path.with_name(f"{path.name}.{remote.commit[:12]}.part")
        _download(remote, part, on_progress)
        if sha256 and (found := sha256_of(part)) != sha256:
            part.unlink()
            raise WeightsError(f"{remote.label} has sha256 {found}, not {sha256}: it was discarded; pull again.")
        part.replace(path)
    on_progress(remote.label, remote.size, remote.size)


def _download(remote: Remote, part: Path, on_progress: Progress) -> None:
    with _explained(remote.label), part.open("ab") as file:
        if file.tell() > remote.size:
            file.seek(0)
            file.truncate()
        http_get(
            remote.url,
            file,
            resume_size=file.tell(),
            headers={"Accept-Encoding": "identity"},  # a compressed body cannot be continued in the middle
            expected_size=remote.size,
            tqdm_class=_progress_bar(remote, on_progress),
        )


def _progress_bar(remote: Remote, on_progress: Progress) -> Any:
    """What the library takes for a tqdm class: it calls `on_progress` and shows nothing."""

    class Bar:
        def __init__(self, *, initial: int = 0, **_options: object) -> None:
            self.done = initial

        def update(self, n_bytes: int) -> None:
            self.done += n_bytes
            if self.done > remote.size:
                raise WeightsError(f"{remote.label}: more bytes arrived than the {remote.size} announced.")
            on_progress(remote.label, self.done, remote.size)

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_error: object) -> None:
            return

    return Bar


@contextmanager
def _explained(label: str) -> Iterator[None]:
    """Turn an error of the library into a WeightsError that says what to do next."""
    constants.HF_HUB_DISABLE_TELEMETRY = True  # it would ask another address than the endpoint
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    try:
        yield
    except Exception as error:
        advice = next((_ADVICE[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _ADVICE), None)
        if advice is None:
            raise
        raise WeightsError(f"Cannot fetch {label}: {advice}. ({_brief(error)})") from error


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
