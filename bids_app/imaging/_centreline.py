"""The cord's centreline in the world, and the poses that lay one onto another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_app.imaging._similarity import LEVER_MM, pose_matrix
from bids_app.imaging.grids import box_around, crop
from bids_app.records import FloatArray, Volume

# Components smaller than this share of the largest are taken for false positives.
_SMALLEST_PART = 0.1
_STEP_MM = 3.0
# With a shorter overlap a tilt is not to be told from a shift.
_SHORTEST_FOR_TILT_MM = 15.0


def centreline(cord: Volume) -> FloatArray | None:
    """Find the middle of the cord at each height.

    Parameters
    ----------
    cord : Volume
        A mask or probabilities; small pieces are left out (`main_part`).

    Returns
    -------
    ndarray of shape (3, n) or None
        RAS+ points, ascending in the third coordinate, at least three; None where there are
        fewer.
    """
    likely = cord.data > 0.5
    if not likely.any():
        return None
    cord = crop(cord, box_around(likely, cord.spacing_mm, 0.0))
    weight = main_part(cord.data)
    voxels = np.argwhere(weight > 0)
    share = weight[tuple(voxels.T)]
    points = voxels @ cord.affine[:3, :3].T + cord.affine[:3, 3]
    up = np.abs(cord.affine[2, :3])
    step = max(_STEP_MM, float(up.max()))
    bins = np.floor((points[:, 2] - points[:, 2].min()) / step + 1e-6).astype(int)
    total = np.bincount(bins, share)
    sums = np.stack([np.bincount(bins, share * points[:, axis]) for axis in range(3)])
    # A height of which only a corner is seen has its middle elsewhere.
    full = total > 0.4 * np.median(total[total > 0])
    if np.count_nonzero(full) < 3:
        return None
    line: FloatArray = sums[:, full] / total[full]
    return line[:, np.argsort(line[2])]


def lay_onto(
    fixed_line: FloatArray, other_line: FloatArray, centre_mm: FloatArray, along_mm: float
) -> FloatArray | None:
    """Find the pose that lays one centreline onto the other, given the shift along the cord.

    A line says nothing about a shift along itself nor a turn about itself: the first is given,
    the second stays 0. The fit is least squares with bisquare weights, so that a stretch that
    is wrong in one of the masks is left out.

    Parameters
    ----------
    fixed_line, other_line : ndarray of shape (3, n), (3, m)
    centre_mm : ndarray of shape (3,)
    along_mm : float

    Returns
    -------
    ndarray of shape (6,) or None
        See `pose_matrix`; None where the lines do not overlap in height.
    """
    pose = np.zeros(6)
    pose[2] = along_mm
    for _ in range(8):
        height, gap = _gaps(fixed_line, other_line, centre_mm, pose)
        if gap.shape[1] < 3:
            return None
        long = np.ptp(height) >= _SHORTEST_FOR_TILT_MM
        design = np.stack([np.ones_like(height), height / LEVER_MM])[: 2 if long else 1]
        right, front = (_robust_fit(design, part) for part in gap)
        pose[0] += right[0]
        pose[1] += front[0]
        if long:
            # A turn about y carries points above the centre to the right, one about x back.
            pose[4] += right[1]
            pose[3] -= front[1]
    return pose


def gap_mm(
    fixed_line: FloatArray, other_line: FloatArray, centre_mm: FloatArray, pose: FloatArray
) -> float:
    """Give the median distance of two centrelines across the cord; infinite if apart."""
    gap = _gaps(fixed_line, other_line, centre_mm, pose)[1]
    return float(np.median(np.hypot(*gap))) if gap.size else float("inf")


def _gaps(
    fixed_line: FloatArray, other_line: FloatArray, centre_mm: FloatArray, pose: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Give heights over the centre, and the way across (x, y) from the one line to the other."""
    matrix = pose_matrix(pose, centre_mm)
    moved = matrix[:3, :3] @ fixed_line + matrix[:3, 3:]
    shared = (moved[2] >= other_line[2, 0]) & (moved[2] <= other_line[2, -1])
    moved = moved[:, shared]
    target = np.stack([np.interp(moved[2], other_line[2], other_line[axis]) for axis in (0, 1)])
    return moved[2] - (centre_mm[2] + pose[2]), target - moved[:2]


def _robust_fit(design: FloatArray, values: FloatArray) -> FloatArray:
    """Fit ``values = coefficients @ design``, twice reweighted by Tukey's bisquare."""
    weight = np.ones_like(values)
    for _ in range(3):
        rows = (design * weight).T
        coefficients: FloatArray = np.linalg.lstsq(rows, values * weight, rcond=None)[0]
        left = np.abs(values - coefficients @ design)
        scale = 4.7 * max(1.48 * float(np.median(left)), 0.2)
        weight = np.where(left < scale, 1 - (left / scale) ** 2, 0.0)
    return coefficients


def main_part(data: NDArray[Any]) -> FloatArray:
    """Keep what is likely cord: above one half and in a component of some size.

    Examples
    --------
    >>> row = [0.2] + [0.8] * 11 + [0, 0.9, 0.9, 0, 0.9]
    >>> main_part(np.array([[row]]))[0, 0, -6:].tolist()
    [0.8, 0.0, 0.9, 0.9, 0.0, 0.0]
    """
    from scipy import ndimage

    weight: FloatArray = np.where(data > 0.5, data, 0).astype(np.float64)
    components, count = ndimage.label(weight > 0, structure=np.ones((3, 3, 3)))
    if count > 1:
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        weight[sizes[components] < _SMALLEST_PART * sizes.max()] = 0
    return weight
