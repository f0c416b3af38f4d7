"""How well lesions come back to the template from a cord that is bent in a known way.

    python benchmarks/template_space.py TEMPLATE_DIR

TEMPLATE_DIR holds the small PAM50 (``PAM50_small_cord.nii.gz``, ``PAM50_small_label_disc.nii.gz``).
Its cord from z = 100 to 180 mm is stretched by 1.1, 0.9 and 1.15, rolled by 12 degrees, bent in
the sagittal plane with a radius of 120 mm, tilted by 10 degrees, and painted on four grids. Twenty
ellipsoids with half-axes of 2, 2 and 5 mm, at random places in it, are painted on the bent cord and
carried back with the discs' true places.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_app.imaging.volumes import read_label_map, read_volume
from bids_app.lesions.atlas import Template, TemplateCord, carry_mask, passage, template_cord
from bids_app.lesions.centerline import trace_centerline
from bids_app.lesions.discs import find_discs
from bids_app.lesions.levels import level_axis

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from cords import Bend, dice, world

Array = NDArray[Any]
LOW_MM, HIGH_MM, MARGIN_MM = 100.0, 180.0, 15.0
HALF_MM = np.array([2.0, 2.0, 5.0])
GRIDS = {
    "0.5": (0.5, 0.5, 0.5),
    "1": (1.0, 1.0, 1.0),
    "3 x 0.7 x 0.7": (3.0, 0.7, 0.7),
    "0.5 x 0.5 x 4": (0.5, 0.5, 4.0),
}
MIDDLE = np.array([0.0, 0.0, (LOW_MM + HIGH_MM) / 2])


def main() -> None:
    """Print a row of the table in docs/measures.md for each grid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("template", type=Path, metavar="TEMPLATE_DIR")
    folder = parser.parse_args().template
    cord = read_volume(folder / "PAM50_small_cord.nii.gz")
    labels = read_label_map(folder / "PAM50_small_label_disc.nii.gz")
    discs = find_discs(labels.data, labels.affine).positions_mm
    target = template_cord(Template(cord.data >= 0.5, cord.affine, discs))
    for name, spacing in GRIDS.items():
        print(f"{name:<16}", _measure(target, np.array(spacing)))


def _measure(target: TemplateCord, spacing: Array) -> str:
    template, bend = target.template, Bend()
    points = target.voxels @ template.affine[:3, :3].T + template.affine[:3, 3]
    points = points[(points[:, 2] > LOW_MM) & (points[:, 2] < HIGH_MM)]
    bent = bend.to_subject(points - MIDDLE)
    corner = bent.min(axis=0) - 8
    shape = tuple(np.ceil((np.ptp(bent, axis=0) + 16) / spacing).astype(int))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = corner
    back = bend.to_template(world(shape, affine)) + MIDDLE
    to_index = np.linalg.inv(template.affine)
    index = back @ to_index[:3, :3].T + to_index[:3, 3]
    inside = ndimage.map_coordinates(template.cord.astype(np.float32), index.T, order=1) >= 0.5
    cord = (inside & (back[:, 2] > LOW_MM) & (back[:, 2] < HIGH_MM)).reshape(shape)
    discs = {
        number: bend.to_subject(place[None] - MIDDLE)[0]
        for number, place in template.discs_mm.items()
        if LOW_MM < place[2] < HIGH_MM
    }
    way = passage(cord, level_axis(trace_centerline(cord, affine), discs), target)
    if way is None:
        return "no way"
    away = np.linalg.norm(way.to_template(bent) - points, axis=1)
    scores, offsets, volumes = [], [], []
    everywhere = world(template.cord.shape, template.affine)
    for center in _centers(points):
        painted = (_ellipsoid(back, center)).reshape(shape) & cord
        expected = _ellipsoid(everywhere, center).reshape(template.cord.shape) & template.cord
        found, _ = carry_mask(painted, affine, way)
        scores.append(dice(found, expected))
        volumes.append(found.sum() / expected.sum())
        moved = everywhere[found.ravel()].mean(axis=0) - everywhere[expected.ravel()].mean(axis=0)
        offsets.append(moved)
    mean, farthest = np.abs(offsets).mean(axis=0), np.linalg.norm(offsets, axis=1).max()
    return (
        f"Dice {np.mean(scores):.2f}, {np.min(scores):.2f}; centroid "
        f"{mean[0]:.2f}, {mean[1]:.2f}, {mean[2]:.2f}; {farthest:.2f}; "
        f"volume {np.mean(volumes):.2f}; points {np.nanmean(away):.2f}, "
        f"{np.nanquantile(away, 0.95):.2f}"
    )


def _centers(points: Array) -> Array:
    inner = (points[:, 2] > LOW_MM + MARGIN_MM) & (points[:, 2] < HIGH_MM - MARGIN_MM)
    return np.random.default_rng(5).choice(points[inner], size=20)


def _ellipsoid(points: Array, center: Array) -> Array:
    return np.asarray(np.sum(np.square((points - center) / HALF_MM), axis=1) <= 1)


if __name__ == "__main__":
    main()
