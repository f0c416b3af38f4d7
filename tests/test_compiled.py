"""OpenVINO's networks are PyTorch's, whoever runs them and on however many threads."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bids_app.networks import build_network
from bids_app.segmentation import compiled, weights
from bids_app.segmentation.compiled import CannotCompile, CompiledNetwork
from bids_app.segmentation.manifest import BOX
from bids_app.segmentation.weights import load_model
from bids_app.training.plan import box_architecture

openvino = pytest.importorskip("openvino")

_ARCHITECTURES = "dynamic_network_architectures.architectures.unet"


def _architecture(kind: str, dimensions: int) -> dict[str, Any]:
    """Describe a small network with all kinds of layers that nnU-Net's planners ask for."""
    blocks = "n_blocks_per_stage" if kind == "ResidualEncoderUNet" else "n_conv_per_stage"
    return {
        "network_class_name": f"{_ARCHITECTURES}.{kind}",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [4, 6, 8],
            "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
            "kernel_sizes": [[1] * dimensions, [3] * dimensions, [3] * dimensions],
            "strides": [[1] * dimensions, [2] * dimensions, [1] + [2] * (dimensions - 1)],
            blocks: [1, 2, 2],
            "n_conv_per_stage_decoder": [1, 2],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


@pytest.mark.parametrize("kind", ["PlainConvUNet", "ResidualEncoderUNet"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_translated_network_answers_as_pytorch_does(kind: str, dimensions: int) -> None:
    torch.manual_seed(5)
    description = _architecture(kind, dimensions)
    network = build_network(description, 2, 3, deep=False, start=True).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.4)  # norms that scale and shift, biases that count
    tile = torch.randn(1, 2, *[16] * dimensions)
    model = compiled._translate(network, tile.shape)
    exact = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.no_grad():
        expected = network(tile)
    torch.testing.assert_close(torch.from_numpy(exact(tile.numpy())[0]), expected)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(6)
    return build_network(box_architecture(), 2, 2, deep=False, start=True).eval()


@pytest.mark.parametrize(("bf16", "relative", "absolute"), [(True, 0.1, 0.2), (False, 1e-3, 1e-3)])
def test_results_do_not_depend_on_how_many_tiles_are_read_at_once(
    network: nn.Module, bf16: bool, relative: float, absolute: float
) -> None:
    shape = (1, 2, 32, 32, 32)
    tiles = [torch.randn(shape) for _ in range(6)]
    alone = CompiledNetwork(network, shape, 1, bf16=bf16)
    expected = [alone(tile) for tile in tiles]
    with torch.no_grad():
        exact = network(tiles[0])
    torch.testing.assert_close(expected[0], exact, rtol=relative, atol=absolute)
    several = CompiledNetwork(network, shape, 3, bf16=bf16)
    with ThreadPoolExecutor(3) as pool:
        for one, other in zip(expected, pool.map(several, tiles), strict=True):
            assert torch.equal(one, other)


_RELEASE = """
import os, torch
from torch import nn
from bids_app.segmentation.compiled import CompiledNetwork
def resident_mb():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
shape = (1, 2, 96, 96, 96)
network = nn.Sequential(nn.Conv3d(2, 32, 3, padding=1), nn.Conv3d(32, 2, 3, padding=1))
compiled, tile = CompiledNetwork(network, shape, 2, bf16=False), torch.randn(shape)
expected, full = compiled(tile), resident_mb()
compiled.release()
print(full - resident_mb(), torch.equal(compiled(tile), expected))
"""


def test_memory_that_is_given_back_is_taken_anew() -> None:
    # In a process of its own: one that was busy before has free memory, which it keeps.
    done = subprocess.run(
        [sys.executable, "-c", _RELEASE],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)},
    )
    fell_mb, same = done.stdout.split()
    # 32 channels of 96^3 voxels in single precision are 108 MB.
    assert float(fell_mb) > 90
    assert same == "True"


def test_memory_in_use_is_not_given_back(network: nn.Module) -> None:
    shape = (1, 2, 32, 32, 32)
    compiled_network, tile = CompiledNetwork(network, shape, 2, bf16=False), torch.randn(shape)
    expected = compiled_network(tile)
    over = threading.Event()

    def release() -> int:
        times = 0
        while not over.wait(0.005):
            compiled_network.release()
            times += 1
        return times

    with ThreadPoolExecutor(3) as pool:
        releasing = pool.submit(release)
        said = list(pool.map(compiled_network, [tile] * 20))
        over.set()
        assert releasing.result() > 1
    assert all(torch.equal(each, expected) for each in said)


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm3d(2).eval(),
        nn.Conv3d(2, 2, 3, groups=2),
        nn.Conv3d(2, 2, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose3d(2, 2, 2, 2, output_padding=1),
        nn.InstanceNorm3d(2, track_running_stats=True).eval(),
        nn.AvgPool3d(2, padding=1),
    ],
)
def test_what_has_no_counterpart_is_refused(layer: nn.Module) -> None:
    with pytest.raises(CannotCompile):
        CompiledNetwork(nn.Sequential(layer), (1, 2, 8, 8, 8), 1, bf16=False)


def test_a_network_that_cannot_be_compiled_runs_in_float32(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise CannotCompile("NewLayer")

    monkeypatch.setattr(weights, "CompiledNetwork", refuse)
    with caplog.at_level(logging.INFO, "bids_app"):
        model = load_model(BOX, torch.device("cpu"))
    assert not model.bf16 and model.at_once == 1
    assert "float32, by PyTorch: NewLayer" in caplog.text
    assert next(model.networks[0].parameters()).dtype == torch.float32


def test_without_openvino_networks_run_in_float32(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with caplog.at_level(logging.INFO, "bids_app"):
        model = load_model(BOX, torch.device("cpu"))
    assert not model.bf16 and model.at_once == 1
    assert "float32, by PyTorch: OpenVINO is not installed" in caplog.text


def test_nothing_that_reports_to_anyone_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys, torch\n"
        "sys.addaudithook(lambda name, _: name.startswith('socket.') and print(name))\n"
        "from bids_app.segmentation.manifest import BOX\n"
        "from bids_app.segmentation.weights import load_model\n"
        "print(type(load_model(BOX, torch.device('cpu')).networks[0]).__name__)\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["CompiledNetwork", "[]"]
