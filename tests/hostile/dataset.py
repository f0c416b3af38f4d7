"""Write the dataset of `cases`: a session for each fault, and good ones between them.

    python -m hostile.dataset DIR     (in tests/)

writes ``DIR/bids`` and ``DIR/given``, to be run by hand.
"""

# nibabel ships as typed, but most of its functions are not.
# mypy: allow-untyped-calls

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_app.commands.demo import write_demo
from hostile.cases import CASES, Place

GOOD = ("good1", "good2")


def write_hostile(folder: Path, names: tuple[str, ...] | None = None) -> tuple[Path, Path]:
    """Write the dataset.

    Parameters
    ----------
    folder : Path
    names : tuple of str, optional
        The cases; all of them by default.

    Returns
    -------
    tuple of Path
        The BIDS dataset, and derivatives with cord masks and disc labels.
    """
    demo, bids, given = folder / "demo", folder / "bids", folder / "given"
    write_demo(demo, 1)
    base = _base(demo, folder / "base")
    bids.mkdir(parents=True)
    given.mkdir()
    description = {"Name": "Hostile", "BIDSVersion": "1.10.0"}
    (bids / "dataset_description.json").write_text(json.dumps(description))
    (given / "dataset_description.json").write_text(
        json.dumps(description | {"DatasetType": "derivative", "GeneratedBy": [{"Name": "hand"}]})
    )
    for label in (*GOOD, *(CASES if names is None else names)):
        place = _good_session(base, bids, given, label)
        if label in CASES:
            CASES[label].spoil(place)
    return bids, given


def _base(demo: Path, folder: Path) -> Path:
    """Crop a synthetic session to 60 mm of cord, so that seventy of them are quickly read."""
    anat, truth = (demo / part / "sub-01/ses-M0/anat" for part in (".", "derivatives/ground-truth"))
    folder.mkdir()
    t2w, cord, second = (
        nib.as_closest_canonical(nib.load(path))
        for path in (
            anat / "sub-01_ses-M0_T2w.nii.gz",
            truth / "sub-01_ses-M0_label-cord_mask.nii.gz",
            anat / "sub-01_ses-M0_acq-STIR_T2w.nii.gz",
        )
    )
    at = np.argwhere(np.asarray(cord.dataobj) > 0)
    front, middle = int(np.median(at[:, 1])), int(np.median(at[:, 2]))
    box = (
        slice(None),
        slice(max(0, front - 40), front + 40),
        slice(max(0, middle - 40), middle + 40),
    )
    for name, image in (("T2w", t2w.slicer[box]), ("cord", cord.slicer[box]), ("STIR", second)):
        nib.save(image, folder / f"{name}.nii.gz")
    return folder


def _good_session(base: Path, bids: Path, given: Path, label: str) -> Place:
    anat = bids / f"sub-{label}" / "anat"
    anat.mkdir(parents=True)
    name = f"sub-{label}"
    t2w, second = anat / f"{name}_T2w.nii.gz", anat / f"{name}_STIR.nii.gz"
    shutil.copy(base / "T2w.nii.gz", t2w)
    shutil.copy(base / "STIR.nii.gz", second)
    cord = np.asarray(nib.load(base / "cord.nii.gz").dataobj) > 0
    return Place(t2w, second, anat, given / name / "anat", cord, name)


if __name__ == "__main__":
    write_hostile(Path(sys.argv[1]))
