"""Find a trained nnU-Net v2 model in folders: its plans, its dataset, a checkpoint a fold."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_app.documents import parse_json
from bids_app.errors import MissingResource

_FOLD = re.compile(r"fold_(\d+|all)")
_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
_MAX_FILES = 20_000
_MAX_JSON_BYTES = 32 * 2**20
# What the folds of one model share; other keys (dates, counts of cases) may differ.
_PLANS = (
    "configurations",
    "transpose_forward",
    "transpose_backward",
    "foreground_intensity_properties_per_channel",
)
_DATASET = ("channel_names", "modality", "labels", "regions_class_order", "image_orientation")


@dataclass(frozen=True)
class Trained:
    """A trained model as nnU-Net leaves it.

    Attributes
    ----------
    plans, dataset : dict
        Content of ``plans.json`` and ``dataset.json``, not yet to be trusted.
    checkpoints : dict
        Path of each fold's checkpoint by the fold's name (``fold_0``, ``fold_all``).
    """

    plans: dict[str, Any]
    dataset: dict[str, Any]
    checkpoints: dict[str, Path]


def find_trained(folders: Sequence[Path]) -> Trained:
    """Find the model in folders, at any depth; folds may be spread over several.

    Parameters
    ----------
    folders : sequence of Path

    Returns
    -------
    Trained
        With the numbered folds, or with ``fold_all`` where there are no numbered ones. Folds of
        the same name from different folders are numbered anew.

    Raises
    ------
    MissingResource
        No model, an incomplete one, or several that differ.
    """
    roots = [
        path.parent
        for folder in folders
        for path in list_files(folder)
        if path.name == "plans.json"
    ]
    if not roots:
        raise MissingResource(
            f"No plans.json in {_names(folders)}: give the folder of a trained nnU-Net v2 model "
            "(with plans.json, dataset.json and fold_0, fold_1, ...) or a zip of it."
        )
    found = [_read(root) for root in roots]
    first = found[0]
    for other in found[1:]:
        if _shared(other) != _shared(first):
            raise MissingResource(
                f"{_names(roots)} hold models that differ in their plans; give the folder of one."
            )
    return Trained(first.plans, first.dataset, _together([one.checkpoints for one in found]))


def list_files(folder: Path) -> list[Path]:
    """List the files below a folder, sorted; hidden ones and macOS's leftovers are left out.

    Raises
    ------
    MissingResource
        There are links, or more files than any model has.
    """
    files: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_left_out(name))
        inside = [Path(place) / name for name in names if not _is_left_out(name)]
        for path in [*inside, *(Path(place) / name for name in folders)]:
            if path.is_symlink():
                raise MissingResource(
                    f"{path} is a link, which a model may not have; put the file itself there."
                )
        files += inside
        if len(files) > _MAX_FILES:
            raise MissingResource(
                f"{folder} holds more than {_MAX_FILES} files; give the folder of the model."
            )
    return sorted(files)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of moderate size.

    Raises
    ------
    MissingResource
    """
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise ValueError("it is too large")
        content = parse_json(path.read_bytes().decode("utf-8-sig"))
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError) as error:
        raise MissingResource(
            f"{path} cannot be read ({error}); install the model again from a complete copy."
        ) from error
    return content


def _read(root: Path) -> Trained:
    """Read one model's folder."""
    if not (root / "dataset.json").is_file():
        raise MissingResource(
            f"{root.name} has a plans.json but no dataset.json beside it; give the whole folder "
            "that nnU-Net's training left."
        )
    checkpoints = {}
    for place in sorted(root.iterdir()):
        if _FOLD.fullmatch(place.name) and place.is_dir():
            path = next((place / name for name in _CHECKPOINTS if (place / name).is_file()), None)
            if path:
                checkpoints[place.name] = path
    if not checkpoints:
        raise MissingResource(
            f"{root.name} has no fold with a checkpoint_final.pth or checkpoint_best.pth; give "
            "the whole folder that nnU-Net's training left."
        )
    return Trained(read_json(root / "plans.json"), read_json(root / "dataset.json"), checkpoints)


def _together(parts: Sequence[dict[str, Path]]) -> dict[str, Path]:
    """Join the folds of all folders.

    Examples
    --------
    >>> a, b = Path("a"), Path("b")
    >>> list(_together([{"fold_1": a}, {"fold_0": b, "fold_all": b}]))
    ['fold_0', 'fold_1']
    >>> list(_together([{"fold_all": a}, {"fold_all": b}]))
    ['fold_0', 'fold_1']
    """
    chosen = [
        {name: path for name, path in part.items() if name != "fold_all"} or part for part in parts
    ]
    pairs = [pair for part in chosen for pair in part.items()]
    if len({name for name, _ in pairs}) < len(pairs):
        return {f"fold_{number}": path for number, (_, path) in enumerate(pairs)}
    return dict(sorted(pairs))


def _shared(model: Trained) -> str:
    parts = [[model.plans.get(key) for key in _PLANS], [model.dataset.get(key) for key in _DATASET]]
    return json.dumps(parts, sort_keys=True)


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _names(folders: Sequence[Path]) -> str:
    return ", ".join(folder.name for folder in folders)
