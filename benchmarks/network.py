"""Inside the network: a tile of the box in plain PyTorch, and as the app runs it.

    python benchmarks/network.py [--repeats 5] [--compile]

Ways take turns, each with as many tiles at the same time as suits it. The machine's peak is what a
large matrix product reaches here, in bfloat16 where the hardware multiplies it; elsewhere the rows
of bfloat16 are left out.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bids_app.networks import build_network, has_fast_bf16, hasten_norms
from bids_app.segmentation.compiled import CompiledNetwork
from bids_app.training.plan import PATCH, box_architecture

_SIDE, _CALLS = 4096, 8


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="try torch.compile too")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    plain = build_network(box_architecture(), 2, 2, deep=False, start=True).eval()
    tile = torch.randn(1, 2, *PATCH)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        plain(tile)
    flops = counter.get_total_flops()
    ways = {
        "float32, nnU-Net's layout": _way(plain, torch.contiguous_format, False),
        "float32, channels last": _way(plain, torch.channels_last_3d, False),
    }
    bf16 = has_fast_bf16(torch.device("cpu"))
    precision = "bfloat16" if bf16 else "float32"
    if bf16:
        ways["bfloat16, channels last"] = _way(plain, torch.channels_last_3d, True)
    fast = copy.deepcopy(plain)
    hasten_norms(fast)
    ways["the same with group norms"] = _way(fast, torch.channels_last_3d, bf16)
    if arguments.compile:
        ways["the same, compiled"] = _way(torch.compile(fast), torch.channels_last_3d, bf16)
    ways[f"OpenVINO, {precision}: the app"] = _openvino(plain, tile, bf16)
    with torch.inference_mode():
        seconds = _time(ways, tile, arguments.repeats)
    peak = _peak(arguments.repeats, torch.bfloat16 if bf16 else torch.float32)
    first = next(iter(seconds.values()))
    table = Table("a tile of 64x64x64", "ms, median", "times as fast", "TFLOP/s", "of the peak")
    for name, took in seconds.items():
        rate = flops / took
        cells = (f"{1e3 * took:.1f}", f"{first / took:.2f}", f"{rate / 1e12:.2f}")
        table.add_row(name, *cells, f"{100 * rate / peak:.0f} %")
    Console(width=100).print(table)
    print(f"{flops / 1e9:.1f} GFLOP a tile; peak {peak / 1e12:.2f} TFLOP/s in {precision}, "
          f"{torch.get_num_threads()} threads")  # fmt: skip


def _way(
    network: nn.Module, layout: torch.memory_format, bf16: bool
) -> Callable[[torch.Tensor], torch.Tensor]:
    moved = copy.deepcopy(network).to(memory_format=layout)  # type: ignore[call-overload]

    def run(tile: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            result: torch.Tensor = moved(tile.contiguous(memory_format=layout))
        return result

    return run


def _openvino(
    network: nn.Module, tile: torch.Tensor, bf16: bool
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Let OpenVINO read as many tiles at the same time as there are threads."""
    streams = torch.get_num_threads()
    compiled = CompiledNetwork(network, tile.shape, streams, bf16=bf16)
    pool = ThreadPoolExecutor(streams)
    waiting: list[Future[torch.Tensor]] = []

    def run(tile: torch.Tensor) -> torch.Tensor:
        # The last call of a round waits for all of it.
        waiting.append(pool.submit(compiled, tile))
        if len(waiting) == _CALLS:
            for one in waiting:
                one.result()
            waiting.clear()
        return tile

    return run


def _time(
    ways: dict[str, Callable[[torch.Tensor], torch.Tensor]], tile: torch.Tensor, repeats: int
) -> dict[str, float]:
    """Median seconds of each way; the first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            for _ in range(_CALLS):
                run(tile)
            if turn:
                taken[name].append((time.perf_counter() - start) / _CALLS)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def _peak(repeats: int, precision: torch.dtype) -> float:
    """FLOP/s of a matrix product, the best of some."""
    a, b = (torch.randn(_SIDE, _SIDE).to(precision) for _ in range(2))
    best = float("inf")
    for _ in range(repeats + 1):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * _SIDE**3 / best


if __name__ == "__main__":
    main()
