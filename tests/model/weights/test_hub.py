"""Fetching from a hub that answers, breaks off, refuses, lies or is not there."""

import dataclasses
import hashlib
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session

from model.domain import WeightsError
from model.weights.hub import PUBLISHED, HubSource, Progress, fetch, is_reachable, published
from tests.model.weights.hub_stub import COMMIT, HubStub, serve

WEIGHTS = bytes(range(256)) * 4096
SOURCE = HubSource(
    repo="some/model",
    revision=COMMIT,
    licence="CC0-1.0",
    folder="mert",
    files={"config.json": None, "pytorch_model.bin": hashlib.sha256(WEIGHTS).hexdigest()},
)


@pytest.fixture
def hub() -> Iterator[HubStub]:
    with serve(HubStub({"some/model": {"config.json": b'{"a": 1}', "pytorch_model.bin": WEIGHTS}})) as stub:
        yield stub
    close_session()


def test_every_file_arrives_and_the_commit_is_told(hub: HubStub, tmp_path: Path) -> None:
    assert fetch(SOURCE, tmp_path / "mert", endpoint=hub.endpoint) == COMMIT
    assert (tmp_path / "mert/config.json").read_bytes() == b'{"a": 1}'
    assert (tmp_path / "mert/pytorch_model.bin").read_bytes() == WEIGHTS
    assert sorted(path.name for path in (tmp_path / "mert").iterdir()) == ["config.json", "pytorch_model.bin"]


def test_a_branch_is_resolved_to_the_commit_it_points_to(hub: HubStub, tmp_path: Path) -> None:
    assert fetch(dataclasses.replace(SOURCE, revision="main"), tmp_path, endpoint=hub.endpoint) == COMMIT


def test_progress_counts_the_bytes_of_each_file_up_to_its_size(hub: HubStub, tmp_path: Path) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    fetch(
        SOURCE,
        tmp_path,
        endpoint=hub.endpoint,
        on_progress=lambda file, done, total: seen.setdefault(file, []).append((done, total)),
    )
    assert seen["some/model/config.json"][-1] == (8, 8)
    counts = seen["some/model/pytorch_model.bin"]
    assert counts == sorted(counts)
    assert counts[-1] == (len(WEIGHTS), len(WEIGHTS))


def test_a_body_that_breaks_off_is_continued_in_the_same_call(hub: HubStub, tmp_path: Path) -> None:
    hub.cut_after["pytorch_model.bin"] = 524_288
    fetch(SOURCE, tmp_path, endpoint=hub.endpoint)
    assert hub.bodies("pytorch_model.bin") == [None, "bytes=524288-"]
    assert (tmp_path / "pytorch_model.bin").read_bytes() == WEIGHTS


def test_what_arrived_before_a_failed_call_is_not_fetched_again(hub: HubStub, tmp_path: Path) -> None:
    hub.cut_after["pytorch_model.bin"] = 524_288
    with pytest.raises(WeightsError, match="what has arrived is kept"):
        fetch(SOURCE, tmp_path, endpoint=hub.endpoint, on_progress=_then(hub.refuse, "pytorch_model.bin", 503))
    assert not (tmp_path / "pytorch_model.bin").exists()

    hub.refuse.clear()
    hub.requests.clear()
    fetch(SOURCE, tmp_path, endpoint=hub.endpoint)
    assert hub.bodies("pytorch_model.bin") == ["bytes=524288-"]
    assert (tmp_path / "pytorch_model.bin").read_bytes() == WEIGHTS


def _then(table: dict[str, int], name: str, status: int) -> Progress:
    """A progress hook that lets the bodies of `name` be refused once its first bytes are in."""

    def hook(file: str, _done: int, _total: int) -> None:
        if file.endswith(name):
            table[name] = status

    return hook


def test_a_file_that_is_there_and_right_is_not_fetched_again(hub: HubStub, tmp_path: Path) -> None:
    fetch(SOURCE, tmp_path, endpoint=hub.endpoint)
    hub.requests.clear()
    fetch(SOURCE, tmp_path, endpoint=hub.endpoint)
    assert hub.bodies("pytorch_model.bin") == []


def test_other_bytes_than_were_pinned_are_refused_and_discarded(hub: HubStub, tmp_path: Path) -> None:
    hub.repos["some/model"]["pytorch_model.bin"] = b"!" + WEIGHTS[1:]
    with pytest.raises(WeightsError, match=r"some/model/pytorch_model\.bin has sha256 .* discarded"):
        fetch(SOURCE, tmp_path, endpoint=hub.endpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_file_without_a_pin_is_held_to_the_hash_that_the_hub_names(hub: HubStub, tmp_path: Path) -> None:
    unpinned = dataclasses.replace(SOURCE, files={"pytorch_model.bin": None})
    part = tmp_path / f"pytorch_model.bin.{COMMIT[:12]}.part"
    part.write_bytes(b"not how it begins")
    with pytest.raises(WeightsError, match="discarded; pull again"):
        fetch(unpinned, tmp_path, endpoint=hub.endpoint)
    fetch(unpinned, tmp_path, endpoint=hub.endpoint)
    assert (tmp_path / "pytorch_model.bin").read_bytes() == WEIGHTS


def test_a_part_longer_than_the_file_is_thrown_away(hub: HubStub, tmp_path: Path) -> None:
    (tmp_path / f"pytorch_model.bin.{COMMIT[:12]}.part").write_bytes(WEIGHTS + WEIGHTS)
    fetch(SOURCE, tmp_path, endpoint=hub.endpoint)
    assert (tmp_path / "pytorch_model.bin").read_bytes() == WEIGHTS


def test_a_missing_file_is_named(hub: HubStub, tmp_path: Path) -> None:
    del hub.repos["some/model"]["config.json"]
    with pytest.raises(WeightsError, match=r"Cannot fetch some/model/config\.json: the repository does not hold") as e:
        fetch(SOURCE, tmp_path, endpoint=hub.endpoint)
    assert e.value.__cause__ is not None


def test_a_missing_revision_is_told_from_a_missing_file(hub: HubStub, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not have the pinned revision"):
        fetch(dataclasses.replace(SOURCE, revision="f" * 40), tmp_path, endpoint=hub.endpoint)


def test_a_hub_that_offers_another_commit_than_the_pinned_one_is_refused(hub: HubStub, tmp_path: Path) -> None:
    hub.claims = "a" * 40
    with pytest.raises(WeightsError, match=f"asked for revision {COMMIT} and was offered {hub.claims}"):
        fetch(SOURCE, tmp_path, endpoint=hub.endpoint)


def test_an_address_that_is_no_hub_is_said_to_be_none(hub: HubStub, tmp_path: Path) -> None:
    hub.claims = "not a commit"
    with pytest.raises(WeightsError, match="does not answer like a model hub"):
        fetch(dataclasses.replace(SOURCE, revision="main"), tmp_path, endpoint=hub.endpoint)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "no url", "ftp://127.0.0.1"])
def test_an_endpoint_that_is_down_or_wrong_gives_one_sentence(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"Cannot fetch some/model/config\.json: the "):
        fetch(SOURCE, tmp_path, endpoint=endpoint)
    close_session()


def test_a_hub_that_answers_is_reachable() -> None:
    mert = PUBLISHED[0]
    with serve(HubStub({mert.repo: {"config.json": b"{}"}}, commit=mert.revision)) as stub:
        assert is_reachable(stub.endpoint)
    close_session()


def test_an_endpoint_that_is_down_is_not_reachable() -> None:
    assert not is_reachable("http://127.0.0.1:1")
    close_session()


def test_an_endpoint_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent_server:
        assert not is_reachable(f"http://127.0.0.1:{silent_server.getsockname()[1]}", timeout_s=0.3)
    time.sleep(0.1)
    close_session()


def test_both_repositories_are_pinned_and_the_head_may_be_another() -> None:
    mert, head = PUBLISHED
    assert all(re.fullmatch("[0-9a-f]{40}", source.revision) for source in PUBLISHED)
    assert head.revision == "886958280c87b64d2abb703b9981611eb53e575d"
    assert published() == PUBLISHED
    assert published("main") == (mert, dataclasses.replace(head, revision="main"))
    with pytest.raises(WeightsError, match="the revision of the head is empty"):
        published(" ")
