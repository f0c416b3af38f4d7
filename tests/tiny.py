"""A dataset of small images: a cube of a synthetic spine, so that a session takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_app.files import write_json
from bids_app.training.anatomy import draw_lesion, draw_spine
from bids_app.training.session import ISOTROPIC, Recipe, image_session

_SIDE = 48


def tiny_image() -> nib.Nifti1Image:
    """Image a spine with lesions, and cut a cube round the middle of its cord."""
    rng = np.random.default_rng((1, 2))
    height = -120.0
    lesions = tuple(draw_lesion(rng, height - 15, height + 15) for _ in range(2))
    spine = draw_spine(rng, 0)
    spine = type(spine)(**{**vars(spine), "lesions": lesions})
    images = image_session(rng, spine, height, Recipe(ISOTROPIC, None, None))
    data, affine = images.first
    middle = np.argwhere(images.cord)
    centre = middle[np.abs(middle[:, 2] - data.shape[2] // 2) < _SIDE // 2].mean(axis=0)
    start = np.clip(np.rint(centre).astype(int) - _SIDE // 2, 0, None)
    part = data[tuple(slice(s, s + _SIDE) for s in start)]
    moved = affine.astype(float) @ np.block(
        [[np.eye(3), start[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]]
    )
    return nib.Nifti1Image(np.clip((part - part.min()) * 800, 0, 32000).astype(np.int16), moved)


def write_tiny(folder: Path, subjects: Sequence[str], sessions: Sequence[str] = ()) -> None:
    """Write the same small image for each subject (and session), a little brighter each time."""
    image = tiny_image()
    data = np.asarray(image.dataobj)
    for index, subject in enumerate(subjects):
        for session in sessions or ("",):
            middle = f"_ses-{session}" if session else ""
            anat = folder / f"sub-{subject}" / (f"ses-{session}" if session else "") / "anat"
            anat.mkdir(parents=True)
            bright = (data * (1 + index / 200)).astype(np.int16)
            path = anat / f"sub-{subject}{middle}_T2w.nii.gz"
            nib.save(nib.Nifti1Image(bright, image.affine), path)
    write_json(
        folder / "dataset_description.json",
        {"Name": "Small spines", "BIDSVersion": "1.10.0", "DatasetType": "raw",
         "License": "CC0", "Authors": ["CordLesion", "CordLesion contributors"]},
    )  # fmt: skip
