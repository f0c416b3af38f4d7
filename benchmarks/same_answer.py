"""Whether the app's choice of tiles gives the masks of the whole image with full overlap.

    python benchmarks/same_answer.py

On the whole spine of `benchmarks/against_nnunet.py` and the demo's sessions, with the box and its
preset; the whole spine with patches of 128x128x64 voxels as well, as large models have. What is
compared is all that the preset makes of the probabilities: masks and counts. First the two
contrasts together are read in all tiles of the image, each by itself as in the app; then each by
itself too, which the app reads along the cord only.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
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
from bids_app.records import Findings, Prepared, Volume
from bids_app.segmentation import prediction
from bids_app.segmentation.inference import segment
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


def findings(prepared: Prepared, model: Model, whole: bool) -> Findings:
    """Segment a session as the app does, or in all tiles of the image."""
    every = partial(prediction.predict, whole=whole)
    with mock.patch.object(prediction, "predict", every):
        found = segment(prepared, model)
    return refine(found.cord, found.lesion, prepared.reference.spacing_mm, load_preset("box"), None)


def compare(name: str, prepared: Prepared, model: Model) -> list[str]:
    """Give the cells of a row."""
    found, seconds = [], []
    for view, whole in (
        (prepared, False),
        (prepared, True),
        (replace(prepared, glimpses=()), True),
    ):
        started = time.monotonic()
        found.append(findings(view, model, whole))
        seconds.append(f"{time.monotonic() - started:.1f}")
    cells = []
    for other in found[1:]:
        cells += [
            f"{dice(found[0].cord, other.cord):.4f}",
            f"{dice(found[0].lesion, other.lesion):.4f}",
            f"{np.max(found[0].instances)}, {np.max(other.instances)}",
        ]
    return [name, *cells, *seconds]


def main() -> None:
    """Print a row for each session."""
    model = load_model(BOX, choose_device("cpu"))
    table = Table(
        "session", "cord", "lesions", "counts", "cord", "lesions", "counts", "s", "s", "s"
    )
    table.title = "Dice: both together in all tiles; each contrast too; and seconds of all three"
    with tempfile.TemporaryDirectory() as folder:
        wide = with_large_patches(Path(folder) / "wide")
        for name, reference, second in sessions(Path(folder)):
            prepared = prepare(reference, second, model)
            table.add_row(*compare(name, prepared, model))
            if name.startswith("large"):
                table.add_row(*compare(f"{name}, 128x128x64", prepared, wide))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
