"""A lesion's own direction against the cord's, and the lesions that it is about to join."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from bids_app.lesions.centerline import Centerline
from bids_app.records import IntArray

ELONGATED = 1.25
"""How much longer than wide a lesion is before it has a direction."""

CONFLUENT_MM = 2.0
"""Widest gap between lesions that count as confluent."""

# Ties count as within: rounding must not decide differently for each way of storage.
_TIE = 1e-6


def orientation_deg(voxels: IntArray, line: Centerline) -> float | None:
    """Measure the angle between a lesion's principal axis and the cord's direction.

    The principal axis is that of the voxels' second moments, each voxel with an extent of
    its own; the cord's direction is the centreline's, averaged over the lesion's voxels.

    Parameters
    ----------
    voxels : ndarray of int, shape (n, 3)
        Voxels of one lesion, all within the cord.
    line : Centerline

    Returns
    -------
    float or None
        0 (along the cord) to 90 (across it). None where it is undefined: the lesion's longest
        axis is less than 1.25 times its second; it is so short along its longest axis that
        this only shows the voxel's own shape (fewer than two voxels); or the cord is seen in
        one slice only.

    Examples
    --------
    >>> from bids_app.lesions.centerline import trace_centerline
    >>> line = trace_centerline(np.ones((3, 3, 9), dtype=bool), np.eye(4))
    >>> round(orientation_deg(np.array([[1, 1, 3], [1, 1, 4]]), line), 6)
    0.0
    >>> orientation_deg(np.array([[1, 1, 3]]), line) is None
    True
    """
    tangent = line.tangent(voxels[:, line.frame.axis])
    steps = line.frame.affine[:3, :3]
    between = steps @ np.cov(voxels.T, bias=True) @ steps.T
    within = steps @ steps.T / 12
    variances, directions = np.linalg.eigh(between + within)
    axis = directions[:, 2]
    elongated = variances[2] >= ELONGATED**2 * variances[1] * (1 - _TIE)
    resolved = axis @ between @ axis >= axis @ within @ axis * (1 - _TIE)
    if not (elongated and resolved) or np.isnan(tangent).any():
        return None
    # The arc tangent, because the arc cosine is blind near 0 degrees.
    aside = np.linalg.norm(np.cross(axis, tangent))
    return float(np.degrees(np.arctan2(aside, abs(axis @ tangent))))


def confluence(
    instances: IntArray,
    index: int,
    box: tuple[slice, ...],
    spacing_mm: tuple[float, float, float],
    gap_mm: float = CONFLUENT_MM,
) -> int:
    """Count the other lesions that a narrow gap at most separates from this one.

    The gap is the smallest distance between the two lesions' voxels, measured from surface
    to surface: 0 for voxels that touch, even by a corner.

    Parameters
    ----------
    instances : ndarray of int, shape (i, j, k)
        0 is background.
    index : int
        The lesion.
    box : tuple of slice
        What holds it, as `scipy.ndimage.find_objects` gives it.
    spacing_mm : tuple of float
        Voxel size along each array axis.
    gap_mm : float
        Widest gap; the limit itself counts as within.

    Returns
    -------
    int

    Examples
    --------
    >>> row = np.array([[[1, 0, 2, 0, 0, 3]]])
    >>> [confluence(row, i, ndimage.find_objects(row)[i - 1], (1, 1, 1), 1.0) for i in (1, 2, 3)]
    [1, 1, 0]
    """
    margins = [int(gap_mm / step + _TIE) + 1 for step in spacing_mm]
    room = tuple(
        slice(max(0, side.start - margin), side.stop + margin)
        for side, margin in zip(box, margins, strict=True)
    )
    near = instances[room]
    mine = near == index
    others = (near > 0) & ~mine
    if not others.any():
        return 0
    # Grown by one voxel: from its centres to another's is then from surface to surface.
    grown = ndimage.binary_dilation(mine, structure=np.ones((3, 3, 3)))
    gap = ndimage.distance_transform_edt(~grown, sampling=spacing_mm)
    return len(np.unique(near[others & (gap <= gap_mm + _TIE)]))
