"""The rates of this device's matrix products and copies: what all other figures are shares of."""

import time
from collections.abc import Callable

import torch

from model.inference.engines.cuda import DTYPES, TF32, set_cuda_products

SHORTEST_S = 0.4


def seconds_of(work: Callable[[], object], device: str, shortest_s: float = SHORTEST_S) -> float:
    """Seconds a call, of several in a row that the device works off without a stop; the first two don't count.

    shortest_s : how long to measure; 0 for one call, which tells whether it works
    """
    if not shortest_s:
        return _elapsed_s(work, device, 1)
    work()
    n_calls = max(3, int(shortest_s / max(_elapsed_s(work, device, 1), 1e-6)))
    return _elapsed_s(work, device, n_calls) / n_calls


def _elapsed_s(work: Callable[[], object], device: str, n_calls: int) -> float:
    synchronise(device)
    began = time.perf_counter()
    for _ in range(n_calls):
        work()
    synchronise(device)
    return time.perf_counter() - began


def synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def product_flops_per_s(precision: str, device: str, size: int, shortest_s: float = SHORTEST_S) -> float:
    """Of a square product of random numbers: zeros would be multiplied faster."""
    if device != "cpu":
        set_cuda_products(tf32=precision == TF32)
    left, right = (torch.randn(size, size, device=device, dtype=DTYPES[precision]) for _ in range(2))
    out = torch.empty_like(left)
    return 2 * size**3 / seconds_of(lambda: torch.mm(left, right, out=out), device, shortest_s)


def copied_bytes_per_s(device: str, n_bytes: int, shortest_s: float = SHORTEST_S) -> float:
    """Within the device's memory; bytes read and bytes written both count."""
    source = torch.empty(n_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * n_bytes / seconds_of(lambda: target.copy_(source), device, shortest_s)
