"""The padding of a segment left out, against the stock network that computes all of it, in float64."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import HubertConfig, HubertModel

from model.domain import SAMPLE_RATE_HZ, SEGMENT_SAMPLES
from model.networks.mert import HIDDEN_STATES, N_LAYERS, SIZE_FIELDS, PooledMert
from model.networks.padding import EDGE_FRAMES, N_REPRESENTATIVES, Filters, Padding, padded_norm
from model.weights.random_weights import MERT_CONFIG
from tests.model import reference

#: Of MERT.
FILTERS = Filters(kernels=(10, 3, 3, 3, 3, 2, 2), strides=(5, 2, 2, 2, 2, 2, 2))


@pytest.fixture(scope="module")
def stock(tiny_weights: Path) -> HubertModel:
    return reference.load_mert(tiny_weights / "mert").double()


@pytest.fixture(scope="module")
def pooled_mert(tiny_weights: Path) -> PooledMert:
    return PooledMert(reference.load_mert(tiny_weights / "mert").double())


def sound(duration_s: float, n_segments: int = 1) -> torch.Tensor:
    """Noise around a level that is not that of the padding."""
    shape = (n_segments, round(duration_s * SAMPLE_RATE_HZ))
    return 0.2 + torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize(
    "duration_s", [1 / SAMPLE_RATE_HZ, 0.01, 0.5, 1, 2.5, 7, 13.3, 19, 24, 27, 28.3, 28.4, 29.9, 30]
)
def test_time_means_are_those_of_the_whole(stock: HubertModel, pooled_mert: PooledMert, duration_s: float) -> None:
    samples = sound(duration_s, n_segments=2 if duration_s == 7 else 1)
    n_padding = SEGMENT_SAMPLES - samples.shape[1]
    with torch.no_grad():
        states = stock(nn.functional.pad(samples, (0, n_padding)), output_hidden_states=True).hidden_states
        expected = torch.stack([states[index].mean(dim=1) for index in HIDDEN_STATES], dim=1)
        torch.testing.assert_close(pooled_mert(samples, n_padding), expected, rtol=0, atol=1e-6)


def test_more_zeros_than_needed_change_nothing(pooled_mert: PooledMert) -> None:
    samples = sound(2)
    with torch.no_grad():
        expected = pooled_mert(samples, SEGMENT_SAMPLES - samples.shape[1])
        for n_zeros in (1, 320, 100_000):
            longer = nn.functional.pad(samples, (0, n_zeros))
            found = pooled_mert(longer, SEGMENT_SAMPLES - longer.shape[1])
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("conv_bias", [False, True])
def test_the_norm_counts_frames_that_are_not_there(conv_bias: bool) -> None:
    torch.manual_seed(0)
    filters, norm = nn.Conv1d(1, 6, 10, stride=5, bias=conv_bias).double(), nn.GroupNorm(6, 6).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    whole = filters(nn.functional.pad(sound(0.1)[:, None], (0, 5_000)))
    kept = whole[..., : whole.shape[-1] - 800]
    with torch.no_grad():
        torch.testing.assert_close(padded_norm(norm, kept, 800), norm(whole)[..., : kept.shape[-1]])


def test_frames_follow_from_samples_as_in_the_network() -> None:
    assert (FILTERS.n_frames(SEGMENT_SAMPLES), FILTERS.n_frames(SEGMENT_SAMPLES, 1)) == (2_249, 143_999)
    for n_frames in (1, 7, 2_249):
        assert FILTERS.n_frames(FILTERS.n_samples(n_frames)) == n_frames
        assert FILTERS.n_frames(FILTERS.n_samples(n_frames) - 1) == n_frames - 1
    assert [FILTERS.n_reached(n_samples) for n_samples in (1, 320, 321)] == [1, 1, 2]  # one begins every 320 samples


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_weights_of_frames_that_stand_for_others_add_up_in_every_precision(dtype: torch.dtype) -> None:
    for n_samples in range(1, SEGMENT_SAMPLES, 9_973):
        padding = Padding.of(FILTERS, n_samples, SEGMENT_SAMPLES - n_samples)
        if not padding.log_weights:
            continue
        bias = padding.attention_bias(torch.zeros(1, 300, 1, dtype=dtype))
        assert bias is not None
        weights = bias.double().exp().flatten()
        n_equal = padding.n_frames - FILTERS.n_reached(n_samples) - 2 * EDGE_FRAMES
        assert weights[300 - EDGE_FRAMES - N_REPRESENTATIVES : 300 - EDGE_FRAMES].sum() == pytest.approx(
            n_equal, rel=1e-6
        )
        assert weights.sum() == pytest.approx(n_equal + 300 - N_REPRESENTATIVES, rel=1e-6)


def test_padding_is_computed_where_leaving_it_out_saves_nothing() -> None:
    for n_samples in (SEGMENT_SAMPLES, SEGMENT_SAMPLES - 40_000):
        assert Padding.of(FILTERS, n_samples, SEGMENT_SAMPLES - n_samples) == Padding(
            SEGMENT_SAMPLES - n_samples, 0, 0, 2_249
        )


@pytest.mark.parametrize(
    ("duration_s", "largest"), [(0.03, 0.04), (1, 0.06), (5, 0.18), (10, 0.33), (20, 0.67), (25, 0.86)]
)
def test_work_falls_with_the_sound(duration_s: float, largest: float) -> None:
    """Of the network of the published size, counted where nothing is computed."""
    sizes = {name: MERT_CONFIG[name] for name in SIZE_FIELDS if name in MERT_CONFIG}
    with torch.device("meta"):
        network = PooledMert(HubertModel(HubertConfig(num_hidden_layers=N_LAYERS, **sizes)).eval())
    n_samples = round(duration_s * SAMPLE_RATE_HZ)
    assert flops(network, n_samples) / flops(network, SEGMENT_SAMPLES) < largest


def flops(network: PooledMert, n_samples: int) -> int:
    math_kernel = nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH)
    with FlopCounterMode(display=False) as counter, math_kernel, torch.no_grad():
        network(torch.empty(1, n_samples, device="meta"), SEGMENT_SAMPLES - n_samples)
    return int(counter.get_total_flops())
