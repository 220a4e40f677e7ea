"""The engines against each other, and what each does when its device lets it down."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.audio.pcm import normalise
from model.domain import (
    SAMPLE_RATE_HZ,
    SEGMENT_SAMPLES,
    DeviceError,
    DeviceLost,
    DeviceOutOfMemory,
    PrecisionUnavailable,
)
from model.inference.engines import selection
from model.inference.engines.cuda import set_cuda_products
from model.inference.engines.openvino import OpenVinoEngine
from model.inference.engines.selection import open_engine
from model.inference.engines.torch import BATCHES, TorchEngine, use_fast_products
from model.networks.mert import EncoderSource, PooledMert, fold_weight_norm, load_mert
from tests.model.inference.signals import noise, relative_error


@pytest.fixture(scope="module")
def encoder(tiny_weights: Path) -> EncoderSource:
    return EncoderSource(tiny_weights / "mert", "tiny")


@pytest.fixture(scope="module")
def torch_engine(encoder: EncoderSource) -> TorchEngine:
    return TorchEngine(encoder)


@pytest.fixture(scope="module")
def openvino_engine(encoder: EncoderSource, cache_home: Path) -> OpenVinoEngine:
    return OpenVinoEngine(encoder, cache_dir=cache_home / "engines")


def test_openvino_gives_the_numbers_of_torch(openvino_engine: OpenVinoEngine, torch_engine: TorchEngine) -> None:
    batch = noise(2)
    assert relative_error(openvino_engine.embed(batch), torch_engine.embed(batch)) < 1e-5


@pytest.mark.parametrize("audible_s", [0.3, 5, 15, 30])
@pytest.mark.parametrize("name", ["torch_engine", "openvino_engine"])
def test_padding_leaves_float32_as_near_to_exact_arithmetic_as_sound_does(
    name: str, encoder: EncoderSource, audible_s: float, request: pytest.FixtureRequest
) -> None:
    engine, exact = request.getfixturevalue(name), PooledMert(encoder.load().double())
    sound = noise(1, int(audible_s * SAMPLE_RATE_HZ))[0]
    padded = np.pad(sound, (0, SEGMENT_SAMPLES - len(sound)))
    with torch.no_grad():
        expected = exact(torch.from_numpy(normalise(padded))[None].double()).numpy()
    for segment in (normalise(sound, SEGMENT_SAMPLES - len(sound)), normalise(padded)):
        assert relative_error(engine.embed([segment]), expected) < 5e-6


def test_folding_the_weight_norm_changes_nothing(encoder: EncoderSource) -> None:
    samples = torch.from_numpy(noise(1, 24_000))
    with torch.inference_mode():
        expected = PooledMert(encoder.load())(samples)
        torch.testing.assert_close(PooledMert(fold_weight_norm(encoder.load()))(samples), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["torch_engine", "openvino_engine"])
def test_neighbours_in_a_batch_do_not_show(name: str, request: pytest.FixtureRequest) -> None:
    engine, batch = request.getfixturevalue(name), [*noise(2), noise(1, 70_000)[0], noise(1, 300)[0], noise(1)[0]]
    alone = np.concatenate([engine.embed([segment]) for segment in batch])
    np.testing.assert_array_equal(engine.embed(batch), alone)


def test_the_number_of_threads_shows_in_the_last_bits_only(encoder: EncoderSource, cache_home: Path) -> None:
    found = []
    before = torch.get_num_threads()
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        found.append(OpenVinoEngine(encoder, cache_dir=cache_home / "engines").embed(noise(1)))
    torch.set_num_threads(before)
    assert relative_error(*found) < 1e-6


def test_an_engine_that_was_compiled_once_does_not_load_the_encoder_again(
    encoder: EncoderSource, openvino_engine: OpenVinoEngine, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EncoderSource, "load", lambda _self: pytest.fail("it was loaded"))
    again = OpenVinoEngine(encoder, cache_dir=cache_home / "engines")
    np.testing.assert_array_equal(again.embed(noise(1)), openvino_engine.embed(noise(1)))


def test_the_network_for_short_segments_is_made_when_there_is_one(encoder: EncoderSource, tmp_path: Path) -> None:
    engine = OpenVinoEngine(encoder, cache_dir=tmp_path / "cache")
    engine.embed(noise(1))
    assert len(list((tmp_path / "cache").glob("*.blob"))) == 1
    engine.embed(noise(1, 24_000))
    assert len(list((tmp_path / "cache").glob("*.blob"))) == 2


def test_other_weights_are_compiled_anew(
    encoder: EncoderSource, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loaded(Exception): ...

    def load(_self: EncoderSource) -> None:
        raise Loaded

    monkeypatch.setattr(EncoderSource, "load", load)
    with pytest.raises(Loaded):
        OpenVinoEngine(EncoderSource(encoder.directory, "other"), cache_dir=cache_home / "engines")


def test_a_compiled_model_that_openvino_refuses_is_made_again(
    encoder: EncoderSource, cache_home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = OpenVinoEngine(encoder, cache_dir=cache_home / "engines")._full._blob
    monkeypatch.setattr("model.inference.engines.cache.Cache.get_or_make", lambda *_: np.zeros(8, np.uint8))
    monkeypatch.setattr("model.inference.engines.openvino._compiled", lambda *_: made)
    assert OpenVinoEngine(encoder, cache_dir=cache_home / "engines").embed(noise(1)).shape == (1, 4, 32)
    assert "compiling it again" in caplog.text


NO_REPORTS = """
import socket, sys
def refuse(*_args):
    raise SystemExit("a connection was tried")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
sys.addaudithook(lambda event, _args: refuse() if event in ("socket.connect", "socket.getaddrinfo") else None)
from pathlib import Path
from model.inference.engines.openvino import OpenVinoEngine
from model.networks.mert import EncoderSource
OpenVinoEngine(EncoderSource(Path(sys.argv[1]), "fresh"), cache_dir=Path(sys.argv[2]))
from openvino.tools.ovc import telemetry_stub, telemetry_utils
assert telemetry_utils.tm is telemetry_stub, telemetry_utils.tm
assert not [name for name, module in sys.modules.items() if name.startswith("openvino_telemetry") and module]
print("compiled in silence")
"""


def test_openvino_reports_nothing_to_anybody_even_with_consent(encoder: EncoderSource, tmp_path: Path) -> None:
    (tmp_path / "intel").mkdir()
    (tmp_path / "intel" / "openvino_telemetry").write_text("1")  # where consent would stand
    program = [sys.executable, "-c", NO_REPORTS, str(encoder.directory), str(tmp_path / "cache")]
    env = {"HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(program, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "compiled in silence", done.stderr


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "model.inference.engines.openvino", None)
    selection._has_openvino.cache_clear()
    yield
    selection._has_openvino.cache_clear()


@pytest.mark.usefixtures("without_openvino")
def test_without_openvino_torch_takes_over_and_the_log_says_so_once(
    encoder: EncoderSource, caplog: pytest.LogCaptureFixture
) -> None:
    assert [open_engine(encoder, device="cpu").name for _ in range(2)] == ["torch", "torch"]
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


@pytest.mark.usefixtures("without_openvino")
def test_openvino_that_was_asked_for_by_name_must_be_there(encoder: EncoderSource) -> None:
    with pytest.raises(DeviceError, match="openvino"):
        open_engine(encoder, device="cpu", engine="openvino")


@pytest.mark.parametrize("device", ["tpu", "cuda:7"])
def test_a_device_that_is_not_there_is_refused(
    encoder: EncoderSource, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=device):
        open_engine(encoder, device=device)


def test_auto_is_openvino_on_the_cpu_where_there_is_no_cuda(
    encoder: EncoderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    engine = open_engine(encoder)
    assert (engine.name, engine.device, engine.precision) == ("openvino", "cpu", "fp32")


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_precision_that_a_cpu_does_not_have_is_refused(encoder: EncoderSource, engine: str) -> None:
    with pytest.raises(PrecisionUnavailable, match="fp16"):
        open_engine(encoder, device="cpu", engine=engine, precision="fp16")


def test_bfloat16_is_near_float32_and_keeps_its_means_in_float32(
    encoder: EncoderSource, torch_engine: TorchEngine
) -> None:
    rough = TorchEngine(encoder, precision="bf16").embed(noise(1))
    assert rough.dtype == np.float32
    assert not np.array_equal(rough, rough.astype(np.float16).astype(np.float32))
    assert 1e-4 < relative_error(rough, torch_engine.embed(noise(1))) < 0.05


def test_fast_products_are_used_only_where_they_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    mode: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    assert use_fast_products() == (mode.fp32_precision == "bf16")
    monkeypatch.setattr("model.inference.engines.torch.EXACT", 0.0)
    assert not use_fast_products()
    assert mode.fp32_precision == "ieee"


def test_the_encoder_is_one_graph_for_a_compiler(encoder: EncoderSource) -> None:
    network, samples = PooledMert(fold_weight_norm(encoder.load())), torch.from_numpy(noise(1, 24_000))
    exported = torch.export.export(network, (samples,), strict=False).module()
    with torch.inference_mode():
        torch.testing.assert_close(exported(samples), network(samples), rtol=0, atol=0)


def roomy_engine(encoder: EncoderSource, batches: tuple[int, ...]) -> TorchEngine:
    """An engine on the CPU that takes batches, as on CUDA."""
    engine = TorchEngine(encoder)
    engine.batches = batches
    return engine


@pytest.mark.parametrize(
    ("n_segments", "sizes"), [(1, [1]), (3, [3]), (5, [4, 1]), (16, [16]), (22, [16, 6]), (40, [16, 16, 8])]
)
def test_any_number_of_segments_is_cut_into_batches_of_known_sizes(
    encoder: EncoderSource, monkeypatch: pytest.MonkeyPatch, n_segments: int, sizes: list[int]
) -> None:
    engine, seen = roomy_engine(encoder, BATCHES["cuda"]), list[int]()

    def states(segments: torch.Tensor, _n_padding: int) -> torch.Tensor:
        seen.append(len(segments))
        return segments[:, None, :4]

    monkeypatch.setattr(engine, "_network", states)
    np.testing.assert_array_equal(engine.embed(noise(n_segments, 4))[:, 0], noise(n_segments, 4))
    assert seen == sizes


def test_segments_of_all_lengths_come_back_in_their_order_whatever_their_batches(
    encoder: EncoderSource, torch_engine: TorchEngine
) -> None:
    durations_s = (3, 30, 0.2, 12, 3.5, 30, 0.04, 29.9)
    segments = [noise(1, int(duration_s * SAMPLE_RATE_HZ))[0] for duration_s in durations_s]
    alone = np.concatenate([torch_engine.embed([segment]) for segment in segments])
    for sizes in [(1,), (2, 1), (8, 4, 2, 1)]:
        assert relative_error(roomy_engine(encoder, sizes).embed(segments), alone) < 1e-5


def test_a_batch_too_large_for_the_device_is_halved_until_it_fits(
    encoder: EncoderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = roomy_engine(encoder, (8, 4, 2, 1))
    forward, sizes, batch = engine._network, list[int](), noise(5, 24_000)
    expected = engine.embed(batch)

    def forward_with_little_memory(samples: torch.Tensor, n_padding: int) -> torch.Tensor:
        sizes.append(len(samples))
        if len(samples) > 2:
            raise torch.OutOfMemoryError
        return forward(samples, n_padding)

    monkeypatch.setattr(engine, "_network", forward_with_little_memory)
    np.testing.assert_allclose(engine.embed(batch), expected, atol=1e-5)
    assert sizes == [4, 2, 2, 1]


@pytest.mark.parametrize(
    ("device", "failure", "error"),
    [
        ("cuda:0", torch.OutOfMemoryError("CUDA out of memory"), DeviceOutOfMemory),
        ("cuda:0", torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), DeviceLost),
        ("cuda:0", RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), DeviceLost),
        ("cpu", RuntimeError("a bug"), RuntimeError),
    ],
)
def test_a_device_that_fails_is_told_from_one_that_is_full(
    encoder: EncoderSource, monkeypatch: pytest.MonkeyPatch, device: str, failure: Exception, error: type[Exception]
) -> None:
    engine = TorchEngine(encoder)
    engine.device = device

    def fail(_segments: torch.Tensor, _n_padding: int) -> torch.Tensor:
        raise failure

    monkeypatch.setattr(engine, "_network", fail)
    with pytest.raises(error) as raised:
        engine.embed(noise(1, 24_000))
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), DeviceOutOfMemory),
        (torch.AcceleratorError("CUDA error: out of memory"), DeviceLost),
    ],
)
def test_a_device_without_room_for_the_network_is_an_error_of_ours(
    encoder: EncoderSource, monkeypatch: pytest.MonkeyPatch, failure: Exception, error: type[Exception]
) -> None:
    def fail(*_arguments: object) -> None:
        raise failure

    monkeypatch.setattr(torch.nn.Module, "to", fail)
    monkeypatch.setattr("model.inference.engines.selection.resolve_device", lambda _device: "cuda")
    with pytest.raises(error, match="cuda"):
        open_engine(encoder, device="cuda", engine="torch")


@pytest.fixture
def products() -> Iterator[None]:
    """After the test, the switches for products of float32 are as torch sets them."""
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("order", [(False, True, False), (True, False, True)])
def test_engines_of_other_precisions_leave_no_mark_on_the_products_of_one(order: tuple[bool, ...]) -> None:
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    for tf32 in order:
        use_fast_products()  # what an engine on the CPU of the same process sets
        set_cuda_products(tf32=tf32)
        assert [backend.fp32_precision == "tf32" for backend in (cuda, cudnn)] == [tf32, tf32]
        assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")  # the compiler asks for it


def test_loading_keeps_the_weight_norm_for_whoever_wants_it(encoder: EncoderSource) -> None:
    assert hasattr(load_mert(encoder.directory).encoder.pos_conv_embed.conv, "parametrizations")
