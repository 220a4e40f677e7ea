"""Weights directories: made, described, checked, converted and pulled, with tiny networks in the published layouts."""

import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import close_session
from safetensors.torch import save_file

from model.audio.synthesizer import synthesise
from model.domain import SCORE_RANGES, TASK_SCORES, WeightsError
from model.networks.checkpoint import read_tensors
from model.networks.head import DEFAULT_LAYER_MIX, LayerMix
from model.networks.head_formats import load_head
from model.networks.mert import load_mert, pooled_states
from model.weights.directory import (
    MANIFEST,
    FileEntry,
    Manifest,
    convert,
    pull,
    read_manifest,
    verify,
    write_manifest,
    write_stand_in,
)
from model.weights.hub import PUBLISHED, RELEASED, HubSource, git_blob_id
from model.weights.random_weights import MERT_CONFIG, mert_shapes
from tests.model.weights.hub_stub import COMMIT, HubStub, serve

MERT, HEAD = "mert/model.safetensors", "apex/apex.safetensors"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "weights"
    write_stand_in(directory, size="tiny")
    return directory


@pytest.fixture
def tiny(made: Path, tmp_path: Path) -> Path:
    """A stand-in of one's own, to be damaged."""
    return Path(shutil.copytree(made, tmp_path / "weights"))


@pytest.fixture
def published(made: Path, tmp_path: Path) -> Path:
    """The same numbers as a user has them from the hub: pickles, and no manifest."""
    directory = tmp_path / "published"
    shutil.copytree(made / "mert", directory / "mert", ignore=shutil.ignore_patterns("*.safetensors"))
    (directory / "apex").mkdir()
    torch.save(read_tensors(made / MERT), directory / "mert/pytorch_model.bin")
    torch.save(read_tensors(made / HEAD), directory / "apex/pytorch_model.bin")
    (directory / "apex/config.json").write_text('{"model_type": "apex"}')
    return directory


# --- the stand-in ---


def test_a_stand_in_says_that_it_is_untrained_and_passes_the_deep_check(made: Path) -> None:
    manifest = verify(made, deep=True)
    assert not manifest.trained
    assert set(manifest.files) == {"mert/config.json", "mert/preprocessor_config.json", MERT, HEAD}


def test_a_stand_in_of_full_size_has_the_published_layout() -> None:
    shapes = mert_shapes(MERT_CONFIG)
    assert len(shapes) == 211
    assert sum(map(math.prod, shapes.values())) == 94_371_712
    assert shapes["encoder.pos_conv_embed.conv.weight_g"] == (1, 1, 128)
    assert shapes["encoder.pos_conv_embed.conv.weight_v"] == (768, 48, 128)


def test_the_same_seed_gives_the_same_files_and_another_seed_others(made: Path, tmp_path: Path) -> None:
    again = write_stand_in(tmp_path / "again", size="tiny")
    other = write_stand_in(tmp_path / "other", size="tiny", seed=1)
    assert again.files == read_manifest(made).files
    assert {name for name in again.files if again.files[name] != other.files[name]} == {MERT, HEAD}


def test_making_a_stand_in_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    write_stand_in(tmp_path / "weights", size="tiny")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("task", ["full", "popularity"])
@pytest.mark.parametrize("n_shared", [2, 3])
def test_a_stand_in_can_have_each_task_and_depth(task: Any, n_shared: Any, tmp_path: Path) -> None:
    write_stand_in(tmp_path / "weights", size="tiny", task=task, n_shared=n_shared)
    config = load_head(tmp_path / "weights/apex").config
    assert (config.task, len(config.shared_dims)) == (task, n_shared)


def test_the_scores_of_a_stand_in_differ_between_tracks_and_are_not_saturated(made: Path) -> None:
    encoder, head = load_mert(made / "mert"), load_head(made / "apex")
    tracks = np.stack(
        [synthesise(duration_s=5.0, sample_rate_hz=24_000, seed=seed).mean(axis=1) for seed in range(40, 46)]
    )
    tracks = (tracks - tracks.mean(axis=1, keepdims=True)) / tracks.std(axis=1, keepdims=True)
    with torch.inference_mode():
        mixed = DEFAULT_LAYER_MIX(pooled_states(encoder, torch.from_numpy(tracks)).numpy())
        scores = head.head(torch.from_numpy(mixed.astype(np.float32)))
    assert tuple(scores) == TASK_SCORES["full"]
    for name, values in scores.items():
        low, high = SCORE_RANGES[name]
        parts = (values - low) / (high - low)
        assert parts.std() > 0.01
        assert parts.min() > 0.01
        assert parts.max() < 0.99


def test_a_stand_in_without_its_manifest_is_still_not_taken_for_trained_weights(tiny: Path) -> None:
    (tiny / MANIFEST).unlink()
    assert not verify(tiny).trained


@pytest.mark.parametrize("marked", [MERT, HEAD])
def test_a_manifest_cannot_pass_a_stand_in_off_as_trained(marked: str, tiny: Path) -> None:
    if marked == MERT:
        tensors = read_tensors(tiny / HEAD)
        (tiny / HEAD).unlink()
        torch.save({"model_state": tensors}, tiny / "apex/best_model.pt")
    else:
        tensors = read_tensors(tiny / MERT)
        (tiny / MERT).unlink()
        save_file(tensors, tiny / MERT)
    (tiny / MANIFEST).unlink()
    write_manifest(tiny, dataclasses.replace(read_manifest(tiny), trained=True))
    with pytest.raises(WeightsError, match="says trained, but the files are those of an untrained stand-in"):
        verify(tiny)


# --- the manifest ---


def test_a_manifest_is_read_back_as_it_was_written(tiny: Path) -> None:
    manifest = read_manifest(tiny)
    write_manifest(tiny, manifest)
    assert read_manifest(tiny) == manifest
    assert sorted(path.name for path in tiny.iterdir()) == ["apex", MANIFEST, "mert"]


def test_files_dropped_in_by_hand_are_described_as_trained_and_of_unknown_origin(published: Path) -> None:
    manifest = verify(published, deep=True)
    assert manifest.trained
    assert manifest.created_at is None
    entry = manifest.files["mert/pytorch_model.bin"]
    content = (published / "mert/pytorch_model.bin").read_bytes()
    assert (entry.sha256, entry.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert entry.source is entry.revision is entry.licence is None


def _no_json(raw: dict[str, Any]) -> str:
    return json.dumps(raw)[:-1]


def _edited(edit: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], str]:
    def text(raw: dict[str, Any]) -> str:
        edit(raw)
        return json.dumps(raw)

    return text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (_no_json, "JSONDecodeError"),
        (lambda _raw: "[]", "not a JSON object"),
        (lambda _raw: "[" * 100_000, "RecursionError"),
        (_edited(lambda raw: raw.pop("trained")), "trained is missing"),
        (_edited(lambda raw: raw.update(trained="false")), "trained is 'false'"),
        (_edited(lambda raw: raw.update(trained=1)), "trained is 1"),
        (_edited(lambda raw: raw.update(extra=1)), "extra is unexpected"),
        (_edited(lambda raw: raw.update(format=2)), "format 2 is not known"),
        (_edited(lambda raw: raw.update(format=True)), "format is True"),
        (_edited(lambda raw: raw.update(files=[])), r"files is \[\]"),
        (_edited(lambda raw: raw["files"].update({MERT: None})), "model.safetensors: not a JSON object"),
        (_edited(lambda raw: raw["files"][MERT].update(bytes="1")), "model.safetensors: bytes is '1'"),
        (_edited(lambda raw: raw["files"][MERT].pop("licence")), "model.safetensors: licence is missing"),
        (_edited(lambda raw: raw["files"].update({"../secret": raw["files"][MERT]})), "names '../secret'"),
        (_edited(lambda raw: raw["files"].update({"/etc/passwd": raw["files"][MERT]})), "names '/etc/passwd'"),
        (_edited(lambda raw: raw["files"].update({"mert/../x": raw["files"][MERT]})), "names 'mert/../x'"),
    ],
)
def test_a_manifest_that_is_not_one_is_refused_by_name(
    text: Callable[[dict[str, Any]], str], complaint: str, tiny: Path
) -> None:
    (tiny / MANIFEST).write_text(text(json.loads((tiny / MANIFEST).read_text())))
    with pytest.raises(WeightsError, match=rf"manifest\.json.*{complaint}"):
        verify(tiny)


# --- verification ---


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["mert/config.json", "mert/preprocessor_config.json", MERT, HEAD])
@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_flip_a_byte, "has sha256 .*: it is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "has .* bytes, not .*: it is damaged"),
        (lambda path: path.unlink(), "is missing|holds n"),
    ],
)
def test_a_file_that_was_altered_cut_or_lost_is_named(
    damage: Callable[[Path], object], complaint: str, name: str, tiny: Path
) -> None:
    damage(tiny / name)
    with pytest.raises(WeightsError, match=complaint) as refusal:
        verify(tiny)
    assert str((tiny / name).parent) in str(refusal.value)


def test_a_file_that_loaders_would_read_must_be_in_the_manifest(tiny: Path, published: Path) -> None:
    shutil.copy(published / "mert/pytorch_model.bin", tiny / "mert")
    with pytest.raises(WeightsError, match=r"mert/pytorch_model\.bin is not in the manifest"):
        verify(tiny)


def test_other_files_beside_the_weights_are_let_be(tiny: Path) -> None:
    (tiny / "README.md").write_text("mine")
    (tiny / "mert/notes.txt").write_text("mine")
    verify(tiny)


def test_a_number_that_is_not_finite_is_named_with_its_tensor(published: Path) -> None:
    tensors = read_tensors(published / "mert/pytorch_model.bin")
    tensors["encoder.layer_norm.bias"][3] = math.nan
    torch.save(tensors, published / "mert/pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"mert/pytorch_model\.bin: encoder\.layer_norm\.bias"):
        verify(published, deep=True)


def test_a_tensor_of_another_shape_is_named(published: Path) -> None:
    tensors = read_tensors(published / "apex/pytorch_model.bin")
    tensors["branch_clarity.branch.2.bias"] = torch.zeros(2)
    torch.save(tensors, published / "apex/pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"apex/pytorch_model\.bin: branch_clarity\.branch\.2\.bias"):
        verify(published, deep=True)


def test_a_directory_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist: fetch the published weights with 'apex weights pull'"):
        verify(tmp_path / "weights")


def test_an_empty_directory_is_no_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds neither"):
        verify(tmp_path)


# --- conversion ---


def _as_hub(_published: Path) -> None:
    """It is one already."""


def _as_training_checkpoint(published: Path) -> None:
    tensors = read_tensors(published / "apex/pytorch_model.bin")
    (published / "apex/pytorch_model.bin").unlink()
    (published / "apex/config.json").unlink()
    torch.save({"model_state": tensors, "epoch": 50, "optimizer": {}}, published / "apex/best_model.pt")


@pytest.mark.parametrize("layout", [_as_hub, _as_training_checkpoint])
def test_converting_keeps_every_number_and_gives_safetensors_only(
    layout: Callable[[Path], None], published: Path, made: Path, tmp_path: Path
) -> None:
    layout(published)
    manifest = convert(published, tmp_path / "converted")
    assert verify(tmp_path / "converted", deep=True) == manifest
    assert set(manifest.files) == {"mert/config.json", "mert/preprocessor_config.json", MERT, HEAD}
    for name in (MERT, HEAD):
        before, after = read_tensors(made / name), read_tensors(tmp_path / "converted" / name)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)


def test_converting_keeps_the_layer_mix_of_the_head(published: Path, tmp_path: Path) -> None:
    tensors = read_tensors(published / "apex/pytorch_model.bin")
    mix = {
        "aggregator.weight": torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1),
        "aggregator.bias": torch.tensor([5.0]),
    }
    torch.save(tensors | mix, published / "apex/pytorch_model.bin")
    convert(published, tmp_path / "converted")
    assert load_head(tmp_path / "converted/apex").layer_mix == LayerMix((1.0, 2.0, 3.0, 4.0), 5.0)


def test_converting_keeps_what_is_known_of_the_origin(published: Path, tmp_path: Path) -> None:
    known = read_manifest(published)
    files = {
        name: dataclasses.replace(entry, source=f"some/where/{name}", revision=COMMIT, licence="CC0-1.0")
        for name, entry in known.files.items()
    }
    write_manifest(published, Manifest(trained=True, files=files))
    converted = convert(published, tmp_path / "converted").files[MERT]
    assert (converted.source, converted.revision) == ("some/where/mert/pytorch_model.bin", COMMIT)
    assert converted.source_sha256 == files["mert/pytorch_model.bin"].sha256 != converted.sha256


def test_a_stand_in_stays_a_stand_in_when_it_is_converted(tiny: Path, tmp_path: Path) -> None:
    assert not convert(tiny, tmp_path / "converted").trained
    (tmp_path / "converted" / MANIFEST).unlink()
    assert not verify(tmp_path / "converted").trained


def test_converting_twice_gives_the_same_bytes(published: Path, tmp_path: Path) -> None:
    first, second = (convert(published, tmp_path / name) for name in ("first", "second"))
    assert first.files == second.files


def test_tensors_that_share_memory_can_be_converted(published: Path, tmp_path: Path) -> None:
    tensors = read_tensors(published / "mert/pytorch_model.bin")
    same = torch.ones(32)
    tensors |= {f"encoder.layers.{layer}.layer_norm.weight": same for layer in (0, 1)}
    torch.save(tensors, published / "mert/pytorch_model.bin")
    convert(published, tmp_path / "converted")


# --- nothing half made, nothing lost ---


def test_a_failure_while_writing_leaves_nothing_behind(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("model.weights.directory.save_file", full_disk)
    with pytest.raises(WeightsError, match="Cannot write .*converted: .*No space left"):
        convert(published, tmp_path / "converted")
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


def test_every_file_can_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_stand_in(tmp_path / "weights", size="tiny")
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "weights").rglob("*") if path.is_file()}
    assert modes == {0o644}


def test_a_stand_in_may_be_replaced(tiny: Path) -> None:
    write_stand_in(tiny, size="tiny", seed=7)
    assert read_manifest(tiny).files[HEAD] == verify(tiny).files[HEAD]
    assert [path.name for path in tiny.parent.iterdir()] == ["weights"]


def test_an_empty_directory_may_be_filled(tmp_path: Path) -> None:
    write_stand_in(tmp_path, size="tiny")
    verify(tmp_path)


def test_trained_weights_are_never_overwritten(published: Path) -> None:
    with pytest.raises(WeightsError, match="is there already: remove it, or choose another directory"):
        write_stand_in(published, size="tiny")


def test_a_stand_in_with_something_of_the_users_in_it_is_not_overwritten(tiny: Path) -> None:
    (tiny / "thesis.txt").write_text("mine")
    with pytest.raises(WeightsError, match="is there already"):
        write_stand_in(tiny, size="tiny")


# --- a checkpoint that its authors released, given by hand ---


@pytest.fixture
def released(published: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of toy size that passes for the released one."""
    _as_training_checkpoint(published)
    path = published / "apex/best_model.pt"
    data = path.read_bytes()
    blob_id = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    ((_, file),) = RELEASED.items()
    monkeypatch.setattr("model.weights.directory.RELEASED", {blob_id: file})
    return path


def _check_is_released(entry: FileEntry, path: Path) -> None:
    assert (entry.source, entry.licence) == ("AMAAI-Lab/apex/models/best_model.pt", "Apache-2.0")
    assert entry.revision == f"blob:{git_blob_id(path)}"


def test_the_released_checkpoint_is_named_where_it_was_dropped_in(released: Path) -> None:
    _check_is_released(read_manifest(released.parents[1]).files["apex/best_model.pt"], released)


def test_the_released_checkpoint_is_named_by_whatever_name_it_is_given_as_a_head(
    released: Path, tiny: Path, tmp_path: Path
) -> None:
    renamed = released.rename(tmp_path / "head from a friend.pt")
    sha256 = hashlib.sha256(renamed.read_bytes()).hexdigest()
    entry = convert(tiny, tmp_path / "converted", head_path=renamed).files[HEAD]
    _check_is_released(entry, renamed)
    assert entry.source_sha256 == sha256
    assert read_manifest(tmp_path / "converted").files[HEAD] == entry


def test_another_checkpoint_has_no_origin(released: Path) -> None:
    with released.open("ab") as file:
        file.write(b"!")
    assert read_manifest(released.parents[1]).files["apex/best_model.pt"].source is None


def test_a_blob_id_is_the_one_that_git_gives(tmp_path: Path) -> None:
    (tmp_path / "hello").write_bytes(b"hello\n")
    assert git_blob_id(tmp_path / "hello") == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert [*RELEASED] == ["72c15cc21bed630c09800af1b740753cfe34a728"]


# --- pulling ---


@pytest.fixture
def hub(published: Path) -> Iterator[HubStub]:
    repos = {
        repo: {path.name: path.read_bytes() for path in (published / folder).iterdir()}
        for repo, folder in (("tiny/mert", "mert"), ("tiny/apex", "apex"))
    }
    with serve(HubStub(repos)) as stub:
        yield stub
    close_session()


@pytest.fixture
def sources(hub: HubStub) -> tuple[HubSource, ...]:
    """The published table, with tiny repositories in it."""
    weights = hashlib.sha256(hub.repos["tiny/mert"]["pytorch_model.bin"]).hexdigest()
    mert, apex = PUBLISHED
    return (
        dataclasses.replace(
            mert, repo="tiny/mert", revision=COMMIT, files={**mert.files, "pytorch_model.bin": weights}
        ),
        dataclasses.replace(apex, repo="tiny/apex", revision=COMMIT),
    )


def test_pulling_gives_loadable_safetensors_with_their_origin(
    hub: HubStub, sources: tuple[HubSource, ...], made: Path, tmp_path: Path
) -> None:
    progress: dict[str, tuple[int, int]] = {}
    manifest = pull(
        tmp_path / "weights",
        endpoint=hub.endpoint,
        sources=sources,
        on_progress=lambda file, done, total: progress.update({file: (done, total)}),
    )
    assert verify(tmp_path / "weights", deep=True) == manifest
    assert manifest.trained
    mert, head = manifest.files[MERT], manifest.files[HEAD]
    assert (mert.source, mert.revision, mert.licence) == ("tiny/mert/pytorch_model.bin", COMMIT, "CC-BY-NC-4.0")
    assert (head.source, head.revision, head.licence) == ("tiny/apex/pytorch_model.bin", COMMIT, "Apache-2.0")
    assert mert.source_sha256 == sources[0].files["pytorch_model.bin"]
    assert len(progress) == 5
    assert all(done == total for done, total in progress.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["published", "weights"]


def test_pulling_again_asks_the_hub_for_nothing(hub: HubStub, sources: tuple[HubSource, ...], tmp_path: Path) -> None:
    first = pull(tmp_path / "weights", endpoint=hub.endpoint, sources=sources)
    assert pull(tmp_path / "weights", endpoint="http://127.0.0.1:1", sources=sources) == first


def test_a_pull_that_was_interrupted_goes_on_where_it_stopped(
    hub: HubStub, sources: tuple[HubSource, ...], tmp_path: Path
) -> None:
    def stop_at_the_head(file: str, _done: int, _total: int) -> None:
        if file == "tiny/apex/config.json":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(tmp_path / "weights", endpoint=hub.endpoint, sources=sources, on_progress=stop_at_the_head)
    assert not (tmp_path / "weights").exists()

    hub.requests.clear()
    pull(tmp_path / "weights", endpoint=hub.endpoint, sources=sources)
    assert len(hub.bodies("pytorch_model.bin")) == 1  # the head's: MERT's was kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["published", "weights"]


def test_a_pull_that_fails_leaves_no_weights_directory(
    hub: HubStub, sources: tuple[HubSource, ...], tmp_path: Path
) -> None:
    hub.repos["tiny/mert"]["pytorch_model.bin"] += b"!"
    with pytest.raises(WeightsError, match=r"tiny/mert/pytorch_model\.bin has sha256"):
        pull(tmp_path / "weights", endpoint=hub.endpoint, sources=sources)
    assert not (tmp_path / "weights").exists()


def test_pulled_files_that_are_no_such_network_are_refused(
    hub: HubStub, sources: tuple[HubSource, ...], tmp_path: Path
) -> None:
    hub.repos["tiny/apex"]["config.json"] = b'{"model_type": "bert"}'
    with pytest.raises(WeightsError, match="model_type is 'bert'"):
        pull(tmp_path / "weights", endpoint=hub.endpoint, sources=sources)
    assert not (tmp_path / "weights").exists()


def test_pulling_takes_the_place_of_a_stand_in(hub: HubStub, sources: tuple[HubSource, ...], tiny: Path) -> None:
    assert pull(tiny, endpoint=hub.endpoint, sources=sources).trained
    assert verify(tiny).trained


def test_pulling_over_other_weights_is_refused_before_anything_is_fetched(
    hub: HubStub, sources: tuple[HubSource, ...], published: Path
) -> None:
    with pytest.raises(WeightsError, match="is there already"):
        pull(published, endpoint=hub.endpoint, sources=sources)
    assert hub.requests == []


def test_pulled_weights_that_were_damaged_since_are_not_taken_for_good(
    hub: HubStub, sources: tuple[HubSource, ...], tmp_path: Path
) -> None:
    pull(tmp_path / "weights", endpoint=hub.endpoint, sources=sources)
    _flip_a_byte(tmp_path / "weights" / MERT)
    with pytest.raises(WeightsError, match="it is damaged"):
        pull(tmp_path / "weights", endpoint=hub.endpoint, sources=sources)


def test_two_pulls_into_one_directory_do_not_mix(hub: HubStub, sources: tuple[HubSource, ...], tmp_path: Path) -> None:
    def pull_again(_file: str, _done: int, _total: int) -> None:
        pull(tmp_path / "weights", endpoint=hub.endpoint, sources=sources)

    with pytest.raises(WeightsError, match="Another pull into .* is running"):
        pull(tmp_path / "weights", endpoint=hub.endpoint, sources=sources, on_progress=pull_again)


def test_a_hub_that_is_down_leaves_nothing_but_the_place_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"Cannot fetch m-a-p/MERT-v1-95M/config\.json: the hub cannot be reached"):
        pull(tmp_path / "weights", endpoint="http://127.0.0.1:1")
    assert not (tmp_path / "weights").exists()
    close_session()
