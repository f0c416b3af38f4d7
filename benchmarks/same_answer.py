"""Whether the app's choice of tiles gives the masks of the whole image with full overlap.

    python benchmarks/same_answer.py

On the whole spine of `benchmarks/against_nnunet.py` and the demo's sessions, with the box and its
preset; the whole spine with patches of 128x128x64 voxels as well, as large models have. What is
compared is all that the preset makes of the probabilities: masks and counts. The contrasts are
looked at, aligned and read as the app does, and then as the app would if it read each of them in
all tiles of its image.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
from against_nnunet import SHAPE, SPACING_MM
from rich.console import Console
from rich.table import Table
from session import write_large_session

from bids_app.commands.demo import write_demo
from bids_app.evaluation.metrics import dice
from bids_app.imaging.grids import to_canonical
from bids_app.imaging.volumes import read_volume
from bids_app.lesions.preset import load_preset
from bids_app.lesions.refine import refine
from bids_app.pipeline import prepare
from bids_app.records import Findings, FloatArray, Prepared, Volume
from bids_app.segmentation import inference, prediction
from bids_app.segmentation.manifest import BOX
from bids_app.segmentation.weights import Model, choose_device, load_model


def sessions(folder: Path) -> Iterator[tuple[str, Volume, Volume | None]]:
    """Write the sessions and give each one's name, reference and second contrast."""
    write_large_session(folder / "large", 4, SHAPE, SPACING_MM)
    write_demo(folder / "demo")
    for path in sorted(folder.glob("*/sub-*/**/anat/*_T2w.nii.gz")):
        if "acq-STIR" in path.name:
            continue
        others = [other for other in sorted(path.parent.glob("*.nii.gz")) if other != path]
        second = to_canonical(read_volume(others[0])) if others else None
        name = path.name.removesuffix("_T2w.nii.gz")
        yield f"{path.relative_to(folder).parts[0]} {name}", to_canonical(read_volume(path)), second


def with_large_patches(folder: Path) -> Model:
    """Give the box's network with patches as large models have them."""
    shutil.copytree(BOX, folder)
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["patch_size"] = [128, 128, 64]
    (folder / "plans.json").write_text(json.dumps(plans))
    return load_model(folder, choose_device("cpu"))


def findings(reference: Volume, second: Volume | None, model: Model, whole: bool) -> Findings:
    """Align and segment a session as the app does, or with all tiles of the images."""
    every = partial(prediction.predict, whole=whole)
    with (
        mock.patch.multiple(prediction, predict=every),
        mock.patch.object(inference, "predict_in_cut", partial(_uncut, whole=whole)),
    ):
        prepared = prepare(reference, second, model, closely=True)
        (found,) = inference.segment_contrasts(prepared, model)
    return refine(found.cord, found.lesion, reference.spacing_mm, load_preset("box"), None)


def _uncut(prepared: Prepared, model: Model, _: object, whole: bool) -> FloatArray:
    return prediction.predict(prepared, model, whole=whole)


def compare(name: str, reference: Volume, second: Volume | None, model: Model) -> list[str]:
    """Give the cells of a row."""
    found, seconds = [], []
    for whole in (False, True):
        started = time.monotonic()
        found.append(findings(reference, second, model, whole))
        seconds.append(f"{time.monotonic() - started:.1f}")
    ours, other = found
    return [
        name,
        f"{dice(ours.cord, other.cord):.4f}",
        f"{dice(ours.lesion, other.lesion):.4f}",
        f"{np.max(ours.instances)}, {np.max(other.instances)}",
        *seconds,
    ]


def main() -> None:
    """Print a row for each session."""
    model = load_model(BOX, choose_device("cpu"))
    table = Table("session", "cord", "lesions", "counts", "s", "s, all tiles")
    table.title = "Dice with the masks of all tiles"
    with tempfile.TemporaryDirectory() as folder:
        wide = with_large_patches(Path(folder) / "wide")
        for name, reference, second in sessions(Path(folder)):
            table.add_row(*compare(name, reference, second, model))
            if name.startswith("large"):
                table.add_row(*compare(f"{name}, 128x128x64", reference, second, wide))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
