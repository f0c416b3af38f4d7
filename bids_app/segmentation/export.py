"""Write a model as a plain nnU-Net v2 folder, for nnU-Net's own commands."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from bids_app.documents import parse_json
from bids_app.errors import UsageError
from bids_app.segmentation.orientation import to_sct_letters
from bids_app.segmentation.weights import load_model


def export_model(source: Path, folder: Path) -> Path:
    """Write a model so that ``nnUNetv2_predict_from_modelfolder`` runs it.

    Parameters
    ----------
    source : Path
        The model's folder.
    folder : Path
        Must be empty or not exist yet.

    Returns
    -------
    Path
        `folder`. Images for it must be stored in the orientation that ``dataset.json`` names,
        because nnU-Net never reorients.

    Raises
    ------
    UsageError
        The folder has something in it.
    MissingResource
        The model is not complete.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; give a new folder.")
    model = load_model(source, torch.device("cpu"), by_pytorch=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("plans.json", "dataset.json"):
        content = parse_json((source / name).read_text(encoding="utf-8"))
        if name == "dataset.json":
            content["image_orientation"] = to_sct_letters(model.manifest.orientation)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for file, network in zip(sorted(model.manifest.weights), model.networks, strict=True):
        place = folder / Path(file).stem
        place.mkdir()
        checkpoint = {
            "network_weights": {k: v.contiguous() for k, v in network.state_dict().items()},
            "init_args": {"configuration": model.manifest.configuration},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": model.manifest.mirror_axes or None,
        }
        torch.save(checkpoint, place / "checkpoint_final.pth")
    return folder
