"""Weights are data: what a checkpoint or a plan may hold, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bids_app.errors import MissingResource
from bids_app.segmentation.architecture import check_architecture
from bids_app.segmentation.checkpoint import read_checkpoint
from bids_app.segmentation.manifest import BOX
from bids_app.segmentation.weights import load_model, memory_format

CPU = torch.device("cpu")
UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


def _save(path: Path, **changes: Any) -> Path:
    """Write a checkpoint with all that nnU-Net puts into one, NumPy's scalars too."""
    content = {
        "network_weights": OrderedDict(weight=torch.ones(2)),
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": []},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)], "epochs": np.arange(3)},
        "_best_ema": np.float64(0.5),
        "current_epoch": 7,
        "init_args": {"configuration": "2d", "fold": np.int64(0), "device": torch.device("cuda:0")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
    }
    path.parent.mkdir(exist_ok=True)
    torch.save(content | changes, path)
    return path


def test_an_ordinary_checkpoint_is_read(tmp_path: Path) -> None:
    found = read_checkpoint(_save(tmp_path / "fold_0" / "checkpoint_final.pth"))
    assert (found.configuration, found.mirror_axes, found.epochs) == ("2d", (0, 1), 7)
    assert list(found.weights) == ["weight"]


def test_the_names_of_old_numpy_are_read(tmp_path: Path) -> None:
    path = _save(tmp_path / "checkpoint_final.pth")
    old = tmp_path / "old.pth"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(old, "w") as sink:
        for item in source.infolist():
            sink.writestr(item, source.read(item).replace(b"numpy._core.", b"numpy.core."))
    assert read_checkpoint(old).epochs == 7


def test_wrappers_are_stripped_and_no_mirroring_is_allowed(tmp_path: Path) -> None:
    weights = {"module._orig_mod.encoder.weight": torch.ones(2)}
    path = _save(tmp_path / "c.pth", network_weights=weights, inference_allowed_mirroring_axes=None)
    found = read_checkpoint(path)
    assert list(found.weights) == ["encoder.weight"]
    assert found.mirror_axes == ()


class _Bomb:
    """Makes a file when it is unpickled in the ordinary way."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("place", ["network_weights", "logging", "init_args", "extra"])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, place: str) -> None:
    canary = tmp_path / "canary"
    path = _save(tmp_path / "fold_0" / "checkpoint_final.pth", **{place: _Bomb(canary)})
    with pytest.raises(MissingResource, match=r"^fold_0/checkpoint_final.pth holds .*mkdir|data"):
        read_checkpoint(path)
    assert not canary.exists()


def test_the_old_format_is_no_way_round(tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "c.pth"
    torch.save({"network_weights": _Bomb(canary)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(MissingResource, match="could run"):
        read_checkpoint(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init_args": {}}, "no checkpoint of nnU-Net"),
        ({"init_args": {"configuration": "../x"}}, "no usable name"),
        ({"network_weights": {"a": 3}}, "not tensors"),
        ({"network_weights": {"a": torch.ones(2, dtype=torch.int64)}}, "floating-point"),
        ({"network_weights": [1]}, "no checkpoint"),
    ],
)
def test_a_checkpoint_without_what_it_takes(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(MissingResource, match=message):
        read_checkpoint(_save(tmp_path / "c.pth", **changes))


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "c.pth")
    for share in (0, 0.3, 0.9):
        cut = tmp_path / "cut.pth"
        cut.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(MissingResource, match="damaged"):
            read_checkpoint(cut)


def test_a_checkpoint_that_unpacks_to_more_than_it_is(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(10**7))
    with pytest.raises(MissingResource, match="more than its size"):
        read_checkpoint(path)


def _architecture(name: str = UNET, **arguments: Any) -> dict[str, Any]:
    imports = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    return {
        "network_class_name": name,
        "arch_kwargs": {"conv_op": "torch.nn.Conv2d", "n_stages": 3, **arguments},
        "_kw_requires_import": imports,
    }


def test_a_network_that_has_moved_is_found() -> None:
    old = "dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet"
    found = check_architecture(_architecture(old))
    assert found["network_class_name"] == (
        "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    )


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "evil.dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "dynamic_network_architectures.architectures.unet.np.load",
        "dynamic_network_architectures.architectures.unet.nn",
        "dynamic_network_architectures.architectures.unet.PlainConvUNet.__init__",
        "dynamic_network_architectures.architectures.unet",
        "torch.nn.Conv2d",
        "",
        None,
        ["os.system"],
    ],
)
def test_no_other_class_is_taken_for_a_network(name: Any) -> None:
    with pytest.raises(MissingResource, match="network class"):
        check_architecture(_architecture(name))


@pytest.mark.parametrize(
    "layer",
    [
        "os.system",
        "torch.hub.load",
        "torch.nn.functional.relu",
        "torch.nn.modules.module.torch.load",
        "torch.nn._reduction.warnings",
        "torch.nn.parallel",
        "torch.nn.",
        "torch.nn.Conv2d; import os",
        3,
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_other_class_is_taken_for_a_layer(layer: Any) -> None:
    with pytest.raises(MissingResource, match="which is no layer of"):
        check_architecture(_architecture(conv_op=layer))


@pytest.mark.parametrize(
    "arguments", [{"n_stages": 10**9}, {"features_per_stage": [10**9]}, {"n_stages": 17}]
)
def test_no_endless_network_is_built(arguments: dict[str, Any]) -> None:
    with pytest.raises(MissingResource, match="more than any published one"):
        check_architecture(_architecture(**arguments))


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Copy the box, to be spoilt."""
    return Path(shutil.copytree(BOX, tmp_path / "model"))


def _change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": ["T2w"]},
        {"outputs": {"cord": 0, "lesion": 2}},
        {"mirror_axes": [3]},
        {"orientation": "XYZ"},
        {"weights": {}},
        {"weights": {"../fold_0.safetensors": "0"}},
        {"fusion": "late", "second_alone_penalty": None},
        {"second_alone_penalty": -1},
        {"second_alone_penalty": float("nan")},
        {"second_alone_penalty": "much"},
        {"reference_alone_penalty": -1},
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(copied: Path, changes: dict[str, Any]) -> None:
    _change(copied / "model.json", **changes)
    with pytest.raises(MissingResource, match="install the model again"):
        load_model(copied, CPU)


def test_a_model_folder_from_a_stranger_is_vetted_too(copied: Path) -> None:
    plans = json.loads((copied / "plans.json").read_text())
    configuration = plans["configurations"]["3d_fullres"]
    configuration["architecture"]["network_class_name"] = "os.system"
    _change(copied / "plans.json", configurations=plans["configurations"])
    with pytest.raises(MissingResource, match="network class"):
        load_model(copied, CPU)


def test_damaged_weights_are_refused(copied: Path) -> None:
    path = copied / "fold_0.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(MissingResource, match="SHA-256"):
        load_model(copied, CPU)


def test_channels_come_last_in_half_precision_only() -> None:
    assert memory_format(False, 2) is torch.contiguous_format
    assert memory_format(True) is torch.channels_last_3d
    assert memory_format(True, 2) is torch.channels_last
