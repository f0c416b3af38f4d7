"""A small template cord whose anatomy is a formula, and subjects that are bent copies of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_app.lesions.atlas import Template, TissueMap

HALF_MM = np.array([6.0, 4.0])
"""Half-axes of the template's section, right-left and antero-posterior."""
HALF_HEIGHT_MM = 60.0
DISCS = {number: np.array([0.0, 12.0, 50.0 - 20.0 * (number - 2)]) for number in range(2, 8)}
AFFINE = np.array([[-1.0, 0, 0, 10], [0, 1, 0, -14], [0, 0, 2, -62], [0, 0, 0, 1]])
SHAPE = (21, 29, 63)


def world(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """Positions of all voxels, shape (n, 3)."""
    return np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]


def in_cord(points: np.ndarray) -> np.ndarray:
    section = np.sum(np.square(points[:, :2] / HALF_MM), axis=1) <= 1
    return section & (np.abs(points[:, 2]) <= HALF_HEIGHT_MM)


def in_grey(points: np.ndarray) -> np.ndarray:
    return in_cord(points) & (np.sum(np.square(points[:, :2] / HALF_MM), axis=1) <= 0.25)


def tissues() -> dict[str, np.ndarray]:
    """Masks of the template's tissues and regions by name."""
    points = world(SHAPE, AFFINE)
    grey, cord, right = in_grey(points), in_cord(points), points[:, 0] > 0
    masks = {
        "wm": cord & ~grey,
        "gm": grey,
        "WM left tract": cord & ~grey & ~right,
        "WM right tract, all": cord & ~grey & right,
        "GM left horn": grey & ~right,
        "GM right horn": grey & right,
    }
    return {name: mask.reshape(SHAPE).astype(np.float32) for name, mask in masks.items()}


def template() -> Template:
    maps = {name: TissueMap(mask, AFFINE) for name, mask in tissues().items()}
    white, grey = maps.pop("wm"), maps.pop("gm")
    cord = in_cord(world(SHAPE, AFFINE)).reshape(SHAPE)
    return Template(cord, AFFINE, DISCS, white, grey, maps)


def write_source(folder: Path, atlas: bool = True, tissue: bool = True) -> Path:
    """Write the template as the Spinal Cord Toolbox lays PAM50 out."""

    def write(name: str, data: np.ndarray) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(data.astype(np.float32), AFFINE), path)

    cord = template().cord
    discs = np.zeros(SHAPE)
    to_index = np.linalg.inv(AFFINE)
    for number, point in DISCS.items():
        discs[tuple(np.rint(to_index[:3, :3] @ point + to_index[:3, 3]).astype(int))] = number
    write("template/PAM50_t2.nii.gz", 100 + 50 * cord)
    # As in the small variant: a cord that is not quite a mask.
    write("template/PAM50_cord.nii.gz", np.where(cord, 0.9, 0.1))
    write("template/PAM50_label_disc.nii.gz", discs)
    masks = tissues()
    white, grey = masks.pop("wm"), masks.pop("gm")
    if tissue:
        write("template/PAM50_wm.nii.gz", white)
        write("template/PAM50_gm.nii.gz", grey)
    if atlas:
        lines = ["# Keyword=IndivLabels", "# ID, name, file"]
        for index, (name, mask) in enumerate(masks.items()):
            write(f"atlas/PAM50_atlas_{index:02d}.nii.gz", mask)
            lines.append(f"{index}, {name}, PAM50_atlas_{index:02d}.nii.gz")
        lines += ["", "# ID, name, IDgroup", "50, spinal cord, 0:3"]
        (folder / "atlas" / "info_label.txt").write_text("\n".join(lines) + "\n")
    return folder


@dataclass(frozen=True)
class Bend:
    """A known way from the template to a subject: stretch, roll, bend, tilt, shift."""

    stretch: tuple[float, float, float] = (1.1, 0.9, 1.15)
    roll_deg: float = 12
    radius_mm: float = 120
    tilt_deg: float = 10
    shift_mm: tuple[float, float, float] = (3, -4, 5)

    def to_subject(self, points: np.ndarray) -> np.ndarray:
        x, y, z = (turn_z(points * self.stretch, self.roll_deg)).T
        angle = z / self.radius_mm
        out = self.radius_mm + y
        bent = np.stack([x, out * np.cos(angle) - self.radius_mm, out * np.sin(angle)], axis=1)
        return bent @ _turn_x(self.tilt_deg).T + self.shift_mm

    def to_template(self, points: np.ndarray) -> np.ndarray:
        x, y, z = ((points - self.shift_mm) @ _turn_x(self.tilt_deg)).T
        angle, out = np.arctan2(z, y + self.radius_mm), np.hypot(z, y + self.radius_mm)
        straight = np.stack([x, out - self.radius_mm, angle * self.radius_mm], axis=1)
        return turn_z(straight, -self.roll_deg) / self.stretch


def turn_z(points: np.ndarray, angle_deg: float) -> np.ndarray:
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    x, y, z = points.T
    return np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=1)


def _turn_x(angle_deg: float) -> np.ndarray:
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + other.sum()))
