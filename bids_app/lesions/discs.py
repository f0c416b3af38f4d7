"""Where the discs are: from a label image to one point a disc."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bids_app.records import FloatArray, IntArray

LAST_DISC = 26
"""Below S1, by the toolbox's count; 25 is L5/S1."""

_LANDMARKS = {49, 50, 60}
# TotalSpineSeg's disc classes, as its documentation lists them (2024-11 on, and before).
_TOTALSPINESEG = {
    **{63 + n: 3 + n for n in range(5)},
    **{71 + n: 8 + n for n in range(12)},
    **{91 + n: 20 + n for n in range(5)},
    100: 25,
}
_TOTALSPINESEG_OLD = {224 - n: 3 + n for n in range(23)}
# A point is a few voxels; what is larger is a disc drawn whole.
_POINT_MM = 10.0
_LARGEST_DISC_MM = 90.0
_TIP_FRACTION = 0.1
# A second piece this large beside the first is no speck but the same label twice.
_TWICE_FRACTION = 0.5


@dataclass(frozen=True)
class Discs:
    """One point a disc.

    Attributes
    ----------
    positions_mm : mapping of int to ndarray of shape (3,)
        By the Spinal Cord Toolbox's number (see `bids_app.lesions.levels`), RAS+.
    remarks : tuple of str
        What was left out, each a whole sentence.
    """

    positions_mm: Mapping[int, FloatArray]
    remarks: tuple[str, ...] = ()


def find_discs(labels: IntArray, affine: FloatArray) -> Discs:
    """Find the discs in a label image of points, or of whole discs.

    Labels are the Spinal Cord Toolbox's (1 to 26; its landmarks 49, 50 and 60 are no discs), or
    TotalSpineSeg's segmentation when a disc of its classes is there (63 to 100, formerly 202 to
    224; its other classes are passed over). A label of up to 10 mm counts as a point, at the mean
    of its voxels; a larger one as a whole disc, whose point is the mean of its most posterior
    tenth, because the posterior tip is what the toolbox labels.

    Parameters
    ----------
    labels : ndarray of int, shape (i, j, k)
    affine : ndarray of shape (4, 4)
        From voxel indices to RAS+ millimetres.

    Returns
    -------
    Discs
        Labels that are there twice, of which a second piece has half the voxels of the first,
        and those too large for a disc are left out with a remark.
    """
    present = [int(value) for value in np.unique(labels) if value > 0]
    numbers, strange = _numbers(present)
    positions: dict[int, FloatArray] = {}
    remarks = []
    if strange:
        shown = ", ".join(map(str, strange[:5])) + (", ..." if len(strange) > 5 else "")
        remarks.append(f"Labels {shown} are no discs' and are not used.")
    boxes = ndimage.find_objects(labels, max_label=max(numbers, default=0))
    for value, number in numbers.items():
        box = boxes[value - 1]
        corner = np.array([side.start for side in box])
        point, problem = _locate(labels[box] == value, corner, affine)
        if point is None:
            remarks.append(f"Disc label {value} {problem} and is not used.")
        else:
            positions[number] = point
    return Discs(positions, tuple(remarks))


def _numbers(present: list[int]) -> tuple[dict[int, int], list[int]]:
    """Give the disc's number for each label, and the labels that are nothing known."""
    for classes in (_TOTALSPINESEG, _TOTALSPINESEG_OLD):
        if classes.keys() & set(present):
            return {value: classes[value] for value in present if value in classes}, []
    strange = [value for value in present if value > LAST_DISC and value not in _LANDMARKS]
    return {value: value for value in present if value <= LAST_DISC}, strange


def _locate(
    mask: np.ndarray, corner: IntArray, affine: FloatArray
) -> tuple[FloatArray | None, str]:
    """Give a label's point in the world, or None and why there is none."""
    pieces, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes)
    if count > 1 and sizes[order[1]] >= _TWICE_FRACTION * sizes[order[0]]:
        return None, "is there more than once"
    voxels = np.argwhere(pieces == order[0] + 1) + corner
    points = voxels @ affine[:3, :3].T + affine[:3, 3]
    extent = float(np.ptp(points, axis=0).max())
    if extent > _LARGEST_DISC_MM:
        return None, f"is too large for a disc ({extent:.0f} mm)"
    if extent > _POINT_MM:
        posterior = points[:, 1] <= np.quantile(points[:, 1], _TIP_FRACTION)
        points = points[posterior]
    return np.asarray(points.mean(axis=0)), ""
