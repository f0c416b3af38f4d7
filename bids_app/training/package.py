"""Turn a training run into a model folder: safetensors and JSON, nothing that can execute."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import nn

from bids_app.networks import build_network
from bids_app.training.plan import WEIGHTS_FILE, box_architecture, box_dataset, box_plans


def package_box(
    state_path: Path, folder: Path, version: str, start: Path | None = None, keep: float = 0.0
) -> Path:
    """Write the box's model from a run's averaged weights, in half precision.

    Parameters
    ----------
    state_path : Path
        ``state.pt`` of the run.
    folder : Path
        Where the model goes; files of the same names are replaced.
    version : str
    start : Path, optional
        The model that the run started from.
    keep : float
        Share of its weights in the result: a mean of both is good at what either is good at
        (Wortsman et al. 2022, arXiv:2109.01903).

    Returns
    -------
    Path
        The manifest.
    """
    state = torch.load(state_path, map_location="cpu", weights_only=True)
    network = build_network(box_architecture(), 2, 2, deep=True, start=False)
    network.load_state_dict(
        {
            k.removeprefix("module."): v
            for k, v in state["average"].items()
            if k.startswith("module.")
        }
    )
    if start is not None and keep:
        _mix_in(network, start, keep)
        state["record"]["kept_of_start"] = keep
    folder.mkdir(parents=True, exist_ok=True)
    # save_model keeps one name of each weight; nnU-Net's networks know the same ones by several.
    save_model(network.half(), str(folder / WEIGHTS_FILE))
    (folder / WEIGHTS_FILE).chmod(0o644)
    digest = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    manifest = {
        "name": "box",
        "version": version,
        "configuration": "3d_fullres",
        "channels": ["T2w", "second"],
        "outputs": {"cord": 0, "lesion": 1},
        "orientation": "RAS",
        "mirror_axes": [2],
        "fusion": "late",
        "second_alone_penalty": 0.25,
        "reference_alone_penalty": 1.5,
        "preset": "box",
        "weights": {WEIGHTS_FILE: digest},
        "licence": "Apache-2.0",
        "intended_use": "Research use only; trained on synthetic spines, on no patient.",
        "citation": "CordLesion contributors, https://github.com/cordlesion/cordlesion",
        "training": state["record"],
    }
    for name, content in (
        ("model.json", manifest),
        ("plans.json", box_plans()),
        ("dataset.json", box_dataset()),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return folder / "model.json"


def _mix_in(network: nn.Module, start: Path, keep: float) -> None:
    """Move a network's weights a share of the way to those of a packaged model."""
    before = build_network(box_architecture(), 2, 2, deep=True, start=False)
    load_model(before, start / WEIGHTS_FILE)
    with torch.no_grad():
        for weight, old in zip(network.parameters(), before.parameters(), strict=True):
            weight.lerp_(old, keep)
