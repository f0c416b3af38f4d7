"""Read one real subject's scans, as they are and changed, to see what breaks.

    python benchmarks/real_scans.py FOLDER [--model DIR ...]

FOLDER holds a BIDS dataset in ``rawdata`` with one subject (T2w and T2starw) and cord masks in
``derivatives/labels``; whether it has lesions is not known, it is thought to have none. Changed
means resampled with a Gaussian blur, cut, noise of 6 % of the brightest, intensities inverted.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bids_app.evaluation.metrics import dice
from bids_app.imaging.grids import box_around, crop, resample_to, to_canonical
from bids_app.imaging.volumes import read_volume
from bids_app.lesions.preset import load_preset
from bids_app.pipeline import find_lesions
from bids_app.records import FloatArray, Volume
from bids_app.segmentation.manifest import find_model
from bids_app.segmentation.weights import Model, choose_device, load_model

_CUT_MM = 8.0


def scans(folder: Path) -> dict[str, tuple[Volume, Volume]]:
    """Read each contrast and its cord mask."""
    found = {}
    for contrast in ("T2w", "T2starw"):
        image = next(folder.glob(f"rawdata/sub-*/anat/*_{contrast}.nii.gz"))
        mask = next(folder.glob(f"derivatives/labels/sub-*/anat/*_{contrast}_label-cord_mask*.gz"))
        found[contrast] = (to_canonical(read_volume(image)), to_canonical(read_volume(mask)))
    return found


def resampled(spacing_mm: tuple[float, float, float]) -> Callable[[Volume, Volume], list[Volume]]:
    """Give what brings an image and its mask to other voxels."""

    def change(image: Volume, mask: Volume) -> list[Volume]:
        factor = np.array(spacing_mm) / image.spacing_mm
        affine = image.affine @ np.diag([*factor, 1.0])
        affine[:3, 3] += image.affine[:3, :3] @ ((factor - 1) / 2)
        shape = np.maximum(1, np.array(image.data.shape) / factor).astype(int)
        grid = Volume(np.zeros(shape, np.float32), affine)
        return [resample_to(image, grid), resample_to(mask, grid)]

    return change


def cut(margin_mm: float) -> Callable[[Volume, Volume], list[Volume]]:
    """Give what cuts an image round its cord."""

    def change(image: Volume, mask: Volume) -> list[Volume]:
        box = box_around(mask.data > 0.5, image.spacing_mm, margin_mm)
        return [crop(image, box), crop(mask, box)]

    return change


def middle(image: Volume, mask: Volume) -> list[Volume]:
    """Keep the middle half of the height."""
    height = image.data.shape[2]
    i, j, _ = (slice(0, n) for n in image.data.shape)
    box = (i, j, slice(height // 4, height - height // 4))
    return [crop(image, box), crop(mask, box)]


def noisy(image: Volume, mask: Volume) -> list[Volume]:
    """Add noise of 6 % of the brightest."""
    noise = np.random.default_rng(0).normal(0, 0.06 * image.data.max(), image.data.shape)
    return [replace(image, data=(image.data + noise).astype(np.float32)), mask]


def inverted(image: Volume, mask: Volume) -> list[Volume]:
    """Turn bright to dark."""
    return [replace(image, data=image.data.max() - image.data), mask]


def as_it_is(image: Volume, mask: Volume) -> list[Volume]:
    """Change nothing."""
    return [image, mask]


CHANGES: tuple[tuple[str, str, Callable[[Volume, Volume], list[Volume]]], ...] = (
    ("T2w", "as it is", as_it_is),
    ("T2starw", "as it is", as_it_is),
    ("T2w", "more noise", noisy),
    ("T2w", "inverted", inverted),
    ("T2w", "middle half of its height", middle),
    ("T2w", "cut 8 mm round the cord", cut(_CUT_MM)),
    ("T2w", "axial 0.7x0.7x5 mm", resampled((0.7, 0.7, 5.0))),
    ("T2w", "axial 1x1x3 mm", resampled((1.0, 1.0, 3.0))),
    ("T2w", "sagittal slices of 3 mm", resampled((3.0, 0.8, 0.8))),
    ("T2w", "sagittal slices of 2 mm", resampled((2.0, 0.8, 0.8))),
    ("T2w", "1.3 mm", resampled((1.3, 1.3, 1.3))),
    ("T2w", "0.7 mm", resampled((0.7, 0.7, 0.7))),
    ("T2starw", "more noise", noisy),
    ("T2starw", "inverted", inverted),
)


def read(image: Volume, mask: FloatArray, second: Volume | None, model: Model) -> tuple[str, float]:
    """Give the cells of a reading and the volume of its lesions."""
    preset = load_preset(model.manifest.preset)
    result = find_lesions(image, second, model, preset)
    sizes = np.bincount(result.findings.instances.ravel())[1:] * image.voxel_mm3
    truth = mask > 0.5
    cord = result.findings.cord
    cells = f"{dice(cord, truth):.3f}; {cord.sum() / truth.sum():.2f}; "
    return cells + (", ".join(f"{size:.0f}" for size in sizes) or "none"), float(sizes.sum())


def main() -> None:
    """Print a row for each reading, a column for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", nargs="+", default=["box"])
    arguments = parser.parse_args()
    models = [load_model(find_model(name), choose_device("cpu")) for name in arguments.model]
    found = scans(arguments.folder)
    table = Table(
        "scan", "", *arguments.model, title="cord Dice; volume, ours / mask; lesions, mm3"
    )
    totals = np.zeros(len(models))
    for contrast, name, change in CHANGES:
        image, mask = change(*found[contrast])
        readings = [read(image, mask.data, None, model) for model in models]
        totals += [volume for _, volume in readings]
        table.add_row(contrast, name, *(cells for cells, _ in readings))
    (image, mask), (second, _) = found["T2w"], found["T2starw"]
    pair = [read(image, mask.data, second, model)[0] for model in models]
    table.add_row("T2w", "with the T2starw", *pair)
    table.add_row("all but the last", "lesions, mm3", *(f"{total:.0f}" for total in totals))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
